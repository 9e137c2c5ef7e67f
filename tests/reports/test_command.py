"""`report` takes a sweep or a long-range sweep; a mistake is one line."""

from pathlib import Path

import pytest

from rnn_lab import commands
from rnn_lab.errors import ConfigError
from rnn_lab.reports.command import report
from tests.reports.sweep_folders import write_job


def test_a_sweep_is_given_by_folder_or_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "a sweep"
    write_job(sweep, "gru_seed2")
    report([f"sweep={sweep}"])
    assert "gru_seed2" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    sweep.rename(tmp_path / "runs" / "named=oddly")
    commands.report(["sweep=named=oddly"])
    assert "runs/named=oddly/sweep.html" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a run", "checkpoints/a run"])
def test_a_run_is_given_by_folder_result_or_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = write_job(tmp_path, name)
    (run / "checkpoints").mkdir()
    (run / "metrics.csv").write_text("")
    for place in (run, run / "result.json", run / "checkpoints" / "best.ckpt"):
        report([f"run={place}"])
        *damaged, page = capsys.readouterr().out.splitlines()
        assert damaged[0] == "missing or damaged: learning curves: metrics.csv: empty"
        assert page == f"Page: {run / 'run.html'}"
        (run / "run.html").unlink()
    report([f"run={run}", f"output={tmp_path}"])
    assert (tmp_path / "run.html").is_file()
    report([f"run={run}", f"output={tmp_path / 'new' / 'page.html'}"])
    assert (tmp_path / "new" / "page.html").is_file()
    assert not (run / "run.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give sweep=<folder>, run=<folder> or long_range=<folder>"),
        (["a", "b"], "a: expected name=value. Choose from: long_range, run, sweep"),
        (["sweep="], "sweep=: no value given"),
        (["sweep=nowhere"], "nowhere: no such folder"),
        (["long_range=nowhere"], "nowhere: no such folder"),
        (["swep=a"], "swep: no such option. Did you mean sweep?"),
        (["sweep=a", "outptu=b"], "outptu: no such option. Did you mean output?"),
        (["sweep=a", "flow_distance=2"], "flow_distance: no such option. Choose from: output, "),
        (["long_range=a", "outptu=b"], "outptu: no such option. Did you mean output?"),
        (["long_range=a", "flow_distance=far"], "flow_distance=far: not a whole number"),
        (["sweep=a", "sweep=b"], "sweep: given twice"),
        (["sweep=a", "run=b"], "run: no such option. Choose from: output, sweep"),
        (["output=b", "sweep=nowhere"], "nowhere: no such folder"),
        (["run=nowhere"], "nowhere: no such folder; give the folder of a run"),
        (["run=a", "examples=many"], "examples=many: not a whole number from 0 to 100"),
        (["run=a", "examples=101"], "examples=101: not a whole number from 0 to 100"),
        (["run=a", "outptu=b"], "outptu: no such option. Did you mean output?"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        commands.report(arguments)
    error = capsys.readouterr().err
    assert exit_.value.code == 1
    assert error.startswith("error: ") and says in error and error.count("\n") == 1


def test_a_report_replaces_reports_of_its_kind_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep"
    run = write_job(sweep, "gru_seed2")
    result, mine = (run / "result.json").read_text(), tmp_path / "mine.html"

    def refused(*arguments: str) -> str:
        with pytest.raises(ConfigError) as error:
            report(arguments)
        return str(error.value)

    says = refused(f"run={run}", f"output={run / 'result.json'}")
    assert says == f"output={run}/result.json: unknown file ending. Choose from: .html, .htm"
    mine.write_text("<!DOCTYPE html><title>Run away</title>")
    says = refused(f"run={run}", f"output={mine}")
    assert says == f"output={mine}: exists and is not the page of a run; choose another name"
    for name in ("summary.csv", "sweep.html"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("my own")
        says = refused(f"sweep={sweep}", f"output={tmp_path / 'out'}")
        assert f"{name}: exists and is not the " in says
        assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["my own"]
        (tmp_path / "out" / name).unlink()
    assert (run / "result.json").read_text() == result
    for _ in range(2):  # repeated during a sweep
        report([f"sweep={sweep}", f"output={tmp_path / 'out'}"])
        report([f"run={run}", f"output={tmp_path / 'page.html'}"])
    page = refused(f"run={run}", f"output={tmp_path / 'out' / 'sweep.html'}")
    assert "is not the page of a run" in page
    capsys.readouterr()


def test_no_option_is_an_error_of_the_function_too() -> None:
    with pytest.raises(ConfigError, match="give sweep="):
        report([])


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run=a", "-h"]])
def test_help_names_every_option(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    commands.report(arguments)
    shown = capsys.readouterr().out
    options = ("sweep=<folder>", "run=<folder>", "long_range=<folder>", "output=", "examples=")
    for option in (*options, "flow_distance="):
        assert option in shown
