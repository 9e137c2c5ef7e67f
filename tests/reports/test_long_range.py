"""The plot and table of a long-range sweep show its metrics and name missing runs."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.reports.command import report
from rnn_lab.reports.long_range import format_markdown, plot_long_range, read_long_range
from tests.reports.conftest import write_gradient_flow, write_run

MODELS = {"rnn": None, "gru": None, "lstm 0": 0.0, "lstm 1": 1.0}
ACCURACY = {"rnn": 0.5, "gru": 0.75, "lstm 0": 0.9, "lstm 1": 1.0}


def write_one(sweep: Path, model: str, distance: int, seed: int, **options: object) -> Path:
    name, bias = model.split()[0], MODELS[model]
    folder = write_run(sweep / f"data.distance={distance},model={model},seed={seed}", examples=3)
    result = json.loads((folder / "result.json").read_text()) | {
        "seed": seed,
        "synthetic": True,
        "model": {"name": name, "bidirectional": False, "forget_bias": bias},
        "data": {
            "name": "long_range",
            "class_names": ["heads", "tails"],
            "options": {"distance": distance},
        },
        # Seeds differ only at the middle distance.
        "test/accuracy": ACCURACY[model] - 0.01 * (seed - 1) * (distance == 100),
    }
    (folder / "result.json").write_text(json.dumps(result | options))
    (folder / ".hydra").mkdir()
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Four models, three distances, three seeds."""
    for model in MODELS:
        for distance in (10, 100, 1000):
            for seed in (1, 2, 3):
                folder = write_one(tmp_path / "sweep", model, distance, seed)
                if distance == 100:
                    rate = 0.5 + 0.1 * list(MODELS).index(model)
                    write_gradient_flow(folder, distances=101, rate=rate)
    return tmp_path / "sweep"


def words(figure: object) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_the_lines_are_means_of_seeds(sweep: Path) -> None:
    left, *_ = plot_long_range(read_long_range([sweep])).axes
    lines = {line.get_label(): line for line in left.lines}
    for label, expected in (
        ("RNN", [0.5, 0.49, 0.5]),
        ("GRU", [0.75, 0.74, 0.75]),
        ("LSTM, forget bias 0", [0.9, 0.89, 0.9]),
        ("LSTM, forget bias 1", [1.0, 0.99, 1.0]),
    ):
        np.testing.assert_allclose(lines[label].get_ydata(), expected)
        np.testing.assert_allclose(lines[label].get_xdata(), [10, 100, 1000], rtol=0.08)
    assert (np.array(lines["chance"].get_ydata()) == 0.5).all()
    single = [line for line in left.lines if line.get_label().startswith("_")]
    assert sum(len(line.get_xdata()) for line in single) == 36
    assert [label.get_text() for label in left.get_xticklabels()] == ["10", "100", "1,000"]


def test_gradient_flow_before_training_is_above_that_after(sweep: Path) -> None:
    _, upper, lower = plot_long_range(read_long_range([sweep])).axes
    for axes, moment in ((upper, 0), (lower, 2)):
        assert len(axes.lines) == 4
        for i, line in enumerate(axes.lines):
            expected = 0.3 * (0.5 + 0.1 * i) ** (np.arange(101) / (moment + 1))
            np.testing.assert_allclose(line.get_ydata(), expected)
    assert "distance 100" in upper.get_title(loc="left")


def test_a_model_has_one_colour(sweep: Path) -> None:
    left, upper, _ = plot_long_range(read_long_range([sweep])).axes
    named = [line for line in left.lines if line.get_label()[0] in "RGL"]
    colours = [line.get_color() for line in named]
    assert len(set(colours)) == 4
    assert colours == [line.get_color() for line in upper.lines]


def test_the_table(sweep: Path) -> None:
    rows = format_markdown(read_long_range([sweep])).splitlines()
    assert rows[0] == "| model | 10 | 100 | 1,000 |"
    assert rows[2] == "| RNN | 50.0 | 49.0 (48.0 to 50.0) | 50.0 |"
    assert rows[5] == "| LSTM, forget bias 1 | 100.0 | 99.0 (98.0 to 100.0) | 100.0 |"


def test_missing_and_failed_runs_are_reported(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = sweep / "data.distance=1000,model=gru,seed=2"
    (failed / "result.json").unlink()
    for seed in (1, 2, 3):
        (sweep / f"data.distance=10,model=rnn,seed={seed}" / "result.json").unlink()
    report([f"long_range={sweep}"])
    printed = capsys.readouterr().out
    assert "| GRU | 75.0 | 74.0 (73.0 to 75.0) | 75.0, 2 of 3 seeds |" in printed
    assert "| RNN | no run | 49.0" in printed
    assert f"unfinished: {failed}\n" in printed
    assert "missing: GRU, distance 1000, seed 2\n" in printed
    assert printed.count("missing: RNN, distance 10, seed") == 3
    figure = plot_long_range(read_long_range([sweep]))
    assert "missing runs: 4 of 36" in words(figure)
    (rnn,) = (line for line in figure.axes[0].lines if line.get_label() == "RNN")
    assert len(rnn.get_xdata()) == 2


def test_a_run_without_a_test_is_named(tmp_path: Path) -> None:
    folder = write_one(tmp_path, "gru", 10, 1, **{"test/accuracy": None})
    with pytest.raises(CheckpointError, match=r"a run without a test \(test=false\)$"):
        read_long_range([folder.parent])


def test_two_sweeps_make_one_plot(sweep: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for folder in sweep.glob("*model=lstm*"):
        folder.rename(other / folder.name)
    assert read_long_range([sweep]).models == ["RNN", "GRU"]
    both = read_long_range([sweep, other])
    assert both.models == ["RNN", "GRU", "LSTM, forget bias 0", "LSTM, forget bias 1"]
    assert not both.missing


def test_both_forms_of_the_gru_have_a_line(sweep: Path) -> None:
    for after in (True, False):
        folder = write_one(sweep.parent / f"reset {after}", "gru", 10, 1)
        result = json.loads((folder / "result.json").read_text())
        result["model"]["reset_after"] = after
        (folder / "result.json").write_text(json.dumps(result))
    assert read_long_range([sweep.parent / f"reset {after}" for after in (True, False)]).models == [
        "GRU",
        "GRU, reset before",
    ]


def test_each_value_of_a_swept_option_has_a_line(tmp_path: Path) -> None:
    for cell in ("gru", "rnn"):
        for size in (8, 16) if cell == "gru" else (32,):
            folder = write_one(tmp_path / f"{size}", cell, 10, 1)
            result = json.loads((folder / "result.json").read_text())
            result["model"]["hidden_size"] = size
            (folder / "result.json").write_text(json.dumps(result))
    sweep = read_long_range([tmp_path / f"{size}" for size in (16, 8, 32)])
    assert sweep.models == ["RNN", "GRU, hidden_size 8", "GRU, hidden_size 16"]


def test_other_cells_have_lines_after_the_built_in_ones(sweep: Path) -> None:
    for cell in ("minlstm", "peephole_lstm"):
        folder = write_one(sweep, "rnn", 10, 4).rename(sweep / cell)
        result = json.loads((folder / "result.json").read_text())
        result["model"] = {"name": cell, "bidirectional": False}
        (folder / "result.json").write_text(json.dumps(result))
    found = read_long_range([sweep])
    assert found.models[-2:] == ["minLSTM", "peephole LSTM"]
    left, *_ = plot_long_range(found).axes
    colours = {line.get_label(): line.get_color() for line in left.lines}
    assert colours["minLSTM"] != colours["peephole LSTM"]


def test_the_plot_is_drawn(sweep: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report([f"long_range={sweep}"])
        report([f"long_range={sweep}", f"output={tmp_path / 'docs' / 'there.png'}"])
    height, width, _ = imread(sweep / "long_range.png").shape
    assert 1200 < width < 1600 and 600 < height < 900
    assert (tmp_path / "docs" / "there.png").stat().st_size < 200_000


def test_without_gradient_flow_the_accuracy_is_still_plotted(sweep: Path) -> None:
    for path in sweep.glob("*/gradient_flow.csv"):
        path.unlink()
    figure = plot_long_range(read_long_range([sweep]))
    assert "not measured by any run" in words(figure)


def test_a_folder_that_is_no_long_range_sweep_is_named(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"distance 7: not measured\. Choose from: 100"):
        report([f"long_range={sweep}", "flow_distance=7"])
    with pytest.raises(CheckpointError, match="no such folder"):
        read_long_range([tmp_path / "nowhere"])
    with pytest.raises(CheckpointError, match="no finished run"):
        (tmp_path / "empty").mkdir()
        read_long_range([tmp_path / "empty"])
    twice = write_one(tmp_path / "reproduce", "rnn", 10, 1)
    with pytest.raises(CheckpointError, match=r"RNN at distance 10, seed 1 is in .* too"):
        read_long_range([sweep, twice.parent])
    write_one(tmp_path / "imdb", "gru", 10, 1, data={"name": "imdb"})
    with pytest.raises(CheckpointError, match="a run of imdb, not of long_range"):
        read_long_range([tmp_path / "imdb"])


def test_another_picture_is_not_replaced(sweep: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"\x89PNG of mine")
    with pytest.raises(ConfigError, match=r"mine\.png: exists and is not the plot of a long-range"):
        report([f"long_range={sweep}", f"output={mine}"])
    assert mine.read_bytes() == b"\x89PNG of mine"
    with pytest.raises(ConfigError, match=r"unknown file ending\. Choose from: \.png"):
        report([f"long_range={sweep}", f"output={tmp_path / 'mine.csv'}"])
    for _ in range(2):
        report([f"long_range={sweep}", f"output={tmp_path / 'ours.png'}"])
    assert imread(tmp_path / "ours.png").size
