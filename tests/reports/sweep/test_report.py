"""The report of a sweep: its tables and summary.csv."""

import csv
import io
import json
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from rnn_lab.commands import report
from rnn_lab.reports.sweep.baselines import summarize_baselines
from rnn_lab.reports.sweep.jobs import read_jobs
from rnn_lab.reports.sweep.report import report_sweep
from rnn_lab.sweeps.sweep_summary import print_summary
from tests.cli.forked import run_warm_command
from tests.reports.sweep_folders import write_job


def reported(sweep: Path, width: int = 80, **options: object) -> str:
    file = io.StringIO()
    report_sweep(sweep, Console(file=file, width=width, **options))
    return file.getvalue()


def summary(sweep: Path) -> dict[str, dict[str, str]]:
    with (sweep / "summary.csv").open(newline="", encoding="utf-8") as file:
        return {row["folder"]: row for row in csv.DictReader(file)}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Write two models with two seeds each, one pruned, one failed and one damaged job."""
    folder = tmp_path / "a sweep"
    for seed in (1, 2):
        for model, accuracy in (("lstm", 0.88), ("gru", 0.89)):
            write_job(
                folder, f"{model}_seed{seed}", accuracy=accuracy + seed / 1000, seed=seed,
                model__name=model, trainer__patience=None if model == "gru" else 3,
            )  # fmt: skip
    write_job(folder, "stopped", status="pruned", accuracy=0.5, seed=3)
    write_job(folder, "broken", status="failed", model__name="rnn")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "result.json").write_text("{")
    return folder


def test_the_table_ranks_runs_and_names_failures(sweep: Path) -> None:
    text = reported(sweep)
    rows = [line.split() for line in text.splitlines()]
    assert [row[:3] for row in rows if row[1:2] and row[1].endswith(("seed1", "seed2"))] == [
        ["1", "gru_seed2", "finished"],
        ["2", "gru_seed1", "finished"],
        ["3", "lstm_seed2", "finished"],
        ["4", "lstm_seed1", "finished"],
    ]
    assert "7 runs: 4 finished, 1 pruned, 1 failed, 1 damaged." in text
    assert f"failed: {sweep / 'broken'}\n  OutOfMemoryError: CUDA out of memory\n" in text
    assert "  overrides: model.name=rnn\n" in text
    assert f"  log: {sweep / 'broken' / 'train.log'}\n" in text
    assert f"damaged: {sweep / 'damaged'}\n" in text and "not valid JSON" in text
    assert "Ranked by validation accuracy only" in text
    assert "test metrics are not used for selection" in text
    # Two seeds at 0.891 and 0.892: s = 0.000707, t(1) = 12.706, half an interval of 0.635 points.
    assert "89.15 % ± 0.07 % [88.51 %, 89.79 %]" in text


def test_a_narrow_terminal_truncates_no_name_and_no_metric(sweep: Path) -> None:
    text = reported(sweep, width=60, force_terminal=True, no_color=True)
    for name in ("gru_seed2", "lstm_seed1", "stopped", "broken", "damaged", "89.20 %"):
        assert name in text
    assert "…" not in text
    assert f"log: {sweep / 'broken' / 'train.log'}\n" in text


def test_the_summary_has_a_row_per_run_and_a_column_per_option(sweep: Path) -> None:
    jobs = report_sweep(sweep, Console(file=io.StringIO()))
    rows = summary(sweep)
    assert list(rows) == [job.name for job in jobs]
    first = next(iter(rows.values()))
    assert list(first)[:6] == ["folder", "status", "rank", "model.name", "trainer.patience", "seed"]
    assert list(first)[6:10] == ["val/accuracy", "val/loss", "test/accuracy", "test/loss"]
    assert (first["folder"], first["rank"], first["val/accuracy"]) == ("gru_seed2", "1", "0.892")
    assert (first["trainer.patience"], rows["lstm_seed1"]["trainer.patience"]) == ("null", "3")
    assert (first["epochs"], first["train_examples_per_s"], first["error"]) == ("4", "1234.5", "")
    assert (rows["stopped"]["status"], rows["stopped"]["val/accuracy"]) == ("pruned", "0.5")
    assert (rows["stopped"]["rank"], rows["stopped"]["test/accuracy"]) == ("", "")
    assert rows["broken"]["error"] == "OutOfMemoryError: CUDA out of memory"
    assert rows["damaged"]["model.name"] == ""


def test_markup_in_names_is_printed_as_text(tmp_path: Path) -> None:
    name = "[red]x[/red] [/]"
    write_job(tmp_path, name, optimizer__name="[b]a[/b]")
    write_job(tmp_path, "y", optimizer__name="adam")
    text = reported(tmp_path)
    assert name in text and "[b]a[/b]" in text


def test_a_report_changes_no_job(sweep: Path) -> None:
    def contents() -> dict[Path, bytes]:
        files = (path for path in sweep.rglob("*") if path.is_file() and path.parent != sweep)
        return {path: path.read_bytes() for path in files}

    before = contents()
    reported(sweep)
    reported(sweep)
    assert contents() == before
    assert sorted(p.name for p in sweep.iterdir() if p.is_file()) == ["summary.csv", "sweep.html"]


@pytest.mark.slow
def test_a_real_sweep_is_reported(tmp_path: Path) -> None:
    done = run_warm_command(
        "train.py",
        *("-m", "experiment=smoke", "model=lstm,gru", "trainer=cpu", "hydra.sweep.dir=sweep"),
        *("data.num_train=60", "data.num_test=20", "model.hidden_size=4", "baseline=tfidf"),
        "plots=false",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    command = ("rnn_lab/__main__.py", "report", f"sweep={tmp_path / 'sweep'}")
    report = run_warm_command(*command, cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "2 runs: 2 finished." in report.stdout
    rows = summary(tmp_path / "sweep")
    assert {row["model.name"] for row in rows.values()} == {"lstm", "gru"}
    for name, row in rows.items():
        result = json.loads((tmp_path / "sweep" / name / "result.json").read_text())
        assert float(row["val/accuracy"]) == result["val/accuracy"]
        assert float(row["test/auroc"]) == result["test/auroc"]
        tfidf = result["baseline"]["tfidf"]["test/accuracy"]
        assert float(row["baseline/tfidf/test/accuracy"]) == tfidf
        assert name in (tmp_path / "sweep" / "sweep.html").read_text()


def test_folds_are_reported_together(tmp_path: Path) -> None:
    for fold, right in enumerate(([1, 1, 0, 0], [1, 1, 1, 0, 1, 1])):
        data = {"name": "files", "fingerprint": "f", "num_examples": {"test": len(right)}}
        config = {"source": "files", "batch_size": 64, "split_seed": 0, "folds": 2, "fold": fold}
        write_job(
            tmp_path, f"fold{fold}", accuracy=0.8, correct=right, data=config, result={"data": data}
        )
    text = reported(tmp_path, width=150)
    assert "Over folds: mean" in text
    assert "66.67 % ± 23.57 %" in text and "70.00 %" in text  # (1/2 + 5/6) / 2, and 7 of 10
    page = (tmp_path / "sweep.html").read_text()
    assert "<h2>Over folds</h2>" in page and "70.00 %" in page


def test_a_folder_that_cannot_be_written_costs_no_table(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("summary.csv", "sweep.html"):
        (sweep / name).mkdir()  # which root cannot replace with a file either
    report([f"sweep={sweep}"])
    shown = capsys.readouterr()
    assert "gru_seed2" in shown.out and "Report:" not in shown.out
    assert shown.err.startswith(f"warning: {sweep}/summary.csv: cannot be written: ")
    assert shown.err.endswith(" output=<folder> writes it elsewhere\n")
    output = tmp_path / "elsewhere" / "deep"
    report([f"sweep={sweep}", f"output={output}"])
    assert f"Report: {output}/summary.csv, {output}/sweep.html\n" in capsys.readouterr().out
    assert 'href="./../../a%20sweep/gru_seed2/"' in (output / "sweep.html").read_text()
    assert (output / "../../a sweep/gru_seed2").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as exit_:
        report([f"sweep={sweep}", f"output={tmp_path / 'file'}"])
    shown = capsys.readouterr()
    assert exit_.value.code == 1 and "gru_seed2" in shown.out
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1


def test_a_sweep_that_ends_prints_its_table_first_and_writes_where_it_is_told(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / "summary.csv").mkdir()
    assert [job.name for job in print_summary(sweep)] == ["broken"]
    shown = capsys.readouterr()
    assert "gru_seed2" in shown.out and f"Report: {sweep}/sweep.html\n" in shown.out
    warning, *errors = shown.err.splitlines()
    assert warning.startswith(f"warning: {sweep}/summary.csv: cannot be written: ")
    _, command = warning.split(". output=<folder> writes it elsewhere: ")
    *program, name, argument = shlex.split(command)
    assert name == "report" and (program == ["rnn-lab"] or program[1:] == ["-m", "rnn_lab"])
    report([argument, f"output={tmp_path / 'elsewhere'}"])
    assert f"Report: {tmp_path}/elsewhere/summary.csv, " in capsys.readouterr().out
    assert errors[0] == "error: 1 of 7 jobs are not done:"
    print_summary(sweep, tmp_path / "elsewhere")
    shown = capsys.readouterr()
    assert f"Report: {tmp_path}/elsewhere/summary.csv, " in shown.out and "warning" not in shown.err


BASELINES = {
    "majority": {"val/accuracy": 0.5, "val/f1": 0.25, "test/accuracy": 0.45, "test/f1": 0.2},
    "tfidf": {"val/accuracy": 0.8805, "val/f1": 0.88, "test/accuracy": 0.86, "wall_time_s": 2.5},
}


def test_baselines_stand_beside_the_runs(tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.88), (2, 0.881), (3, 0.9)):
        write_job(tmp_path, f"gru{seed}", accuracy=accuracy, seed=seed,
                  result={"baseline": BASELINES})  # fmt: skip
    write_job(tmp_path, "none", accuracy=0.7, seed=4)
    text = reported(tmp_path, width=150)
    assert "Baselines: means over the runs" in text
    lines = {line.split("  ")[1]: line.split() for line in text.splitlines() if "  " in line[1:]}
    expected = ["88.05", "%", "86.00", "%", "1", "of", "3"]
    assert lines["TF-IDF with logistic regression"][-7:] == expected
    assert lines["most frequent class"][-7:] == ["50.00", "%", "45.00", "%", "0", "of", "3"]
    rows = summary(tmp_path)
    assert [name for name in rows["gru1"] if name.startswith("baseline/")] == [
        *("baseline/tfidf/val/accuracy", "baseline/tfidf/val/f1", "baseline/tfidf/test/accuracy"),
        *("baseline/majority/val/accuracy", "baseline/majority/val/f1"),
        *("baseline/majority/test/accuracy", "baseline/majority/test/f1"),
    ]
    assert rows["gru1"]["baseline/tfidf/val/accuracy"] == "0.8805"
    assert rows["none"]["baseline/tfidf/val/accuracy"] == ""
    page = (tmp_path / "sweep.html").read_text()
    table = page[page.index('id="baselines"') :].partition("</table>")[0]
    assert "TF-IDF with logistic regression" in table and ">88.05 %<" in table
    assert ">1 of 3<" in table and ">45.00 %<" in table and "wall" not in table


def test_a_run_that_was_only_tested_is_not_counted_as_below_a_baseline(tmp_path: Path) -> None:
    write_job(tmp_path, "trained", accuracy=0.9, result={"baseline": BASELINES})
    write_job(tmp_path, "tested", seed=2, result={"baseline": BASELINES})
    path = tmp_path / "tested" / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in result.items() if not k.startswith("val/")}))
    baselines = summarize_baselines(read_jobs(tmp_path))
    assert {(one.losing, one.runs) for one in baselines} == {(0, 1)}


def test_baselines_of_other_texts_have_rows_of_their_own(tmp_path: Path) -> None:
    for path, accuracy in (("a.csv", 0.6), ("b.csv", 0.8)):
        scores = {"tfidf": {"val/accuracy": accuracy}}
        for seed in (1, 2):
            write_job(tmp_path, f"{path}{seed}", data__train_path=path, seed=seed,
                      result={"baseline": scores})  # fmt: skip
    text = reported(tmp_path, width=150)
    assert "train_path=a.csv               60.00 %" in text
    assert "train_path=b.csv               80.00 %" in text
    page = (tmp_path / "sweep.html").read_text()
    assert "<th>texts</th>" in page and "<bdi>train_path=b.csv</bdi>" in page


def test_a_damaged_baseline_is_named(tmp_path: Path) -> None:
    for i, found in enumerate(([], "x", {"tfidf": 3}, {"tfidf": {"val/accuracy": "x"}})):
        write_job(tmp_path, f"gru{i}", result={"baseline": found})
    text = reported(tmp_path, width=150)
    assert "4 runs: 1 finished, 3 damaged." in text
