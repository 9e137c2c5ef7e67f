"""The sweep's picture and table show its runs' figures, and say which runs there are not."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.long_range import draw_long_range, main, markdown_table
from rnn_lab.reports.long_range_runs import read_sweep
from tests.reports.conftest import write_gradient_flow, write_run

MODELS = {"rnn": None, "gru": None, "lstm 0": 0.0, "lstm 1": 1.0}
ACCURACY = {"rnn": 0.5, "gru": 0.75, "lstm 0": 0.9, "lstm 1": 1.0}


def write_one(sweep: Path, model: str, distance: int, seed: int, **options: object) -> Path:
    name, bias = model.split()[0], MODELS[model]
    folder = write_run(sweep / f"data.distance={distance},model={model},seed={seed}", reviews=3)
    result = json.loads((folder / "result.json").read_text()) | {
        "seed": seed,
        "synthetic": True,
        "model": {"name": name, "bidirectional": False, "forget_bias": bias},
        "data": {
            "name": "long_range",
            "class_names": ["heads", "tails"],
            "options": {"distance": distance},
        },
        # The seeds differ at the middle distance alone.
        "test/accuracy": ACCURACY[model] - 0.01 * (seed - 1) * (distance == 100),
    }
    (folder / "result.json").write_text(json.dumps(result | options))
    (folder / "config").mkdir()
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
    left, *_ = draw_long_range(read_sweep([sweep])).axes
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


def test_the_gradient_flow_of_the_start_stands_over_that_of_the_end(sweep: Path) -> None:
    _, upper, lower = draw_long_range(read_sweep([sweep])).axes
    for axes, moment in ((upper, 0), (lower, 2)):
        assert len(axes.lines) == 4
        for i, line in enumerate(axes.lines):
            expected = 0.3 * (0.5 + 0.1 * i) ** (np.arange(101) / (moment + 1))
            np.testing.assert_allclose(line.get_ydata(), expected)
    assert "100 words" in upper.get_title(loc="left")


def test_a_model_has_one_colour(sweep: Path) -> None:
    left, upper, _ = draw_long_range(read_sweep([sweep])).axes
    named = [line for line in left.lines if line.get_label()[0] in "RGL"]
    colours = [line.get_color() for line in named]
    assert len(set(colours)) == 4
    assert colours == [line.get_color() for line in upper.lines]


def test_the_table(sweep: Path) -> None:
    rows = markdown_table(read_sweep([sweep])).splitlines()
    assert rows[0] == "| model | 10 | 100 | 1,000 |"
    assert rows[2] == "| RNN | 50.0 | 49.0 (48.0 to 50.0) | 50.0 |"
    assert rows[5] == "| LSTM, forget bias 1 | 100.0 | 99.0 (98.0 to 100.0) | 100.0 |"


def test_gaps_and_failed_runs_are_said(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = sweep / "data.distance=1000,model=gru,seed=2"
    (failed / "result.json").unlink()
    for seed in (1, 2, 3):
        (sweep / f"data.distance=10,model=rnn,seed={seed}" / "result.json").unlink()
    main([str(sweep)])
    printed = capsys.readouterr().out
    assert "| GRU | 75.0 | 74.0 (73.0 to 75.0) | 75.0, 2 of 3 seeds |" in printed
    assert "| RNN | no run | 49.0" in printed
    assert f"not finished: {failed}\n" in printed
    assert "no run: GRU, distance 1000, seed 2\n" in printed
    assert printed.count("no run: RNN, distance 10, seed") == 3
    figure = draw_long_range(read_sweep([sweep]))
    assert "missing runs: 4 of 36" in words(figure)
    (rnn,) = (line for line in figure.axes[0].lines if line.get_label() == "RNN")
    assert len(rnn.get_xdata()) == 2


def test_two_sweeps_make_one_picture(sweep: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for folder in sweep.glob("*model=lstm*"):
        folder.rename(other / folder.name)
    assert read_sweep([sweep]).models == ["RNN", "GRU"]
    both = read_sweep([sweep, other])
    assert both.models == ["RNN", "GRU", "LSTM, forget bias 0", "LSTM, forget bias 1"]
    assert not both.gaps


def test_both_forms_of_the_gru_have_a_line(sweep: Path) -> None:
    for reset in ("after", "before"):
        folder = write_one(sweep.parent / reset, "gru", 10, 1)
        result = json.loads((folder / "result.json").read_text())
        result["model"]["reset_after"] = reset == "after"
        (folder / "result.json").write_text(json.dumps(result))
    assert read_sweep([sweep.parent / "after", sweep.parent / "before"]).models == [
        "GRU",
        "GRU, reset before",
    ]


def test_the_picture_is_drawn(sweep: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main([str(sweep)])
        main([str(sweep), "--output", str(tmp_path / "docs" / "there.png")])
    height, width, _ = imread(sweep / "long_range.png").shape
    assert 1200 < width < 1600 and 600 < height < 900
    assert (tmp_path / "docs" / "there.png").stat().st_size < 200_000


def test_without_gradient_flow_the_accuracy_is_drawn_all_the_same(sweep: Path) -> None:
    for path in sweep.glob("*/gradient_flow.csv"):
        path.unlink()
    figure = draw_long_range(read_sweep([sweep]))
    assert "no run measured it" in words(figure)


def test_what_is_no_such_sweep_is_named(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(sweep), "--flow-distance", "7"])
    assert "distance 7: measured are 100" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="no such folder"):
        read_sweep([tmp_path / "nowhere"])
    with pytest.raises(CheckpointError, match="no finished run"):
        read_sweep([tmp_path])
    twice = write_one(tmp_path / "reproduce", "rnn", 10, 1)
    with pytest.raises(CheckpointError, match=r"RNN at distance 10, seed 1 stands in .* too"):
        read_sweep([sweep, twice.parent])
    write_one(tmp_path / "imdb", "gru", 10, 1, data={"name": "imdb"})
    with pytest.raises(CheckpointError, match="a run of imdb, not of long_range"):
        read_sweep([tmp_path / "imdb"])
