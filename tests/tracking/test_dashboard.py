"""The dashboard of a project: its panels against what real runs logged, and how it is saved."""

import csv
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rnn_lab.errors import ConfigError, UserError
from rnn_lab.tracking.dashboard import build_dashboard, check_keys, contents_of
from rnn_lab.tracking.dashboard_command import dashboard
from rnn_lab.tracking.logged_runs import LoggedRun, read_logged_runs
from tests.cli.forked import run_warm_command
from tests.cli.runner import run_command
from tests.tracking.wandb_page import MARKED, PAGE, commands_to_run
from tests.tracking.wandb_server import API_KEY, wandb_server

WARM = functools.partial(run_warm_command, "rnn_lab/__main__.py")
COLD = functools.partial(run_command, "src/rnn_lab/__main__.py")  # a start is tested once


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account and no request, in a folder of its own."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def runs(offline_sweep: Path) -> list[LoggedRun]:
    return read_logged_runs(offline_sweep, "run=first")


@pytest.fixture(scope="session")
def run(offline_sweep: Path) -> Path:
    """One run of the sweep."""
    return next(path for path in offline_sweep.glob("gru_*"))


@pytest.fixture(scope="session")
def multilabel_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("multilabel")
    with (cwd / "moods.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "labels"])
        for labels in (["fun"], ["sad"], ["fun", "sad"], []) * 20:
            writer.writerow([f"a film {' '.join(labels)} {len(labels)}", "|".join(labels)])
    done = run_warm_command(
        "train.py",
        *("experiment=smoke", "data=files", "data.train_path=moods.csv", "data.label_separator=|"),
        *("logger=wandb", "model=rnn", "model.hidden_size=4", "hydra.run.dir=run"),
        *("baseline=none", "plots=false", "trainer.log_every_n_steps=100"),
        cwd=cwd,
        env={"WANDB_MODE": "offline"},
    )
    assert done.returncode == 0, done.stderr
    return cwd / "run"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def panels(specification: Any) -> Iterator[dict[str, Any]]:
    """Yield every panel of a workspace or of a report."""
    if isinstance(specification, dict):
        if "viewType" in specification:
            yield specification
        else:
            for value in specification.values():
                yield from panels(value)
    elif isinstance(specification, list):
        for value in specification:
            yield from panels(value)


def test_a_sweep_has_a_workspace_and_a_report_with_the_same_panels(offline_sweep, capsys):
    arguments = ("team/project", f"run={offline_sweep}")
    dashboard(arguments)
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"Checked: \d\d keys, which the W&B runs in \S+ logged\n"
        r"Workspace: dashboard/workspace.json\nReport: dashboard/report.json\n",
        said,
    )
    workspace, report = (read(Path(f"dashboard/{name}.json")) for name in ("workspace", "report"))
    assert [workspace[key] for key in ("entity", "project")] == ["team", "project"]
    kinds = [panel["viewType"] for panel in panels(workspace)]
    assert sorted(kinds) == sorted(panel["viewType"] for panel in panels(report))
    assert {"Parallel Coordinates Plot", "Parameter Importance", "Media Browser"} <= set(kinds)
    configs = [panel["config"] for panel in panels(workspace)]
    metrics = {metric for config in configs for metric in config.get("metrics", [])}
    assert {"train/loss", "val/loss", "train/accuracy", "val/accuracy", "val/f1"} <= metrics
    assert {"lr", "grad_norm", "train/examples_per_second", "test/accuracy"} <= metrics
    assert {"model.value.name"} == {c["groupBy"] for c in configs if "groupBy" in c}
    (columns,) = (config["columns"] for config in configs if "columns" in config)
    accessors = [column["accessor"] for column in columns]
    assert accessors == ["config:model.value.name", "summary:val/accuracy"]
    tables = {"sweep/runs", "test/top_losses", "test/per_class"}
    assert all(f'"{table}"' in json.dumps(workspace) for table in tables)

    dashboard((*arguments, "output=again"))  # it can be kept under version control
    for name in ("workspace.json", "report.json"):
        assert Path("again", name).read_bytes() == Path("dashboard", name).read_bytes()


def test_the_second_command_of_the_page_writes_the_dashboard_of_the_first(offline_sweep):
    assert len(re.findall(r"^```bash$", PAGE, flags=re.M)) == len(MARKED.findall(PAGE))
    _, (name, *arguments) = commands_to_run()
    done = WARM(name, *arguments, cwd=offline_sweep.parents[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Checked: ")
    assert {f.name for f in offline_sweep.parents[1].glob("dashboard/*")} == {
        *("workspace.json", "report.json")
    }


def test_the_charts_are_those_that_wandb_draws_of_the_tables(runs):
    """A run logs the configuration of its charts; W&B shows nothing for a wrong column."""
    logged = {
        key: config["panel_config"]
        for run in runs
        for key, config in run.config.items()
        if key.startswith("_wandb.visualize.")
    }
    specification = build_dashboard("team", "project", "title", contents_of(runs)).specifications()
    charts = [p["config"] for p in panels(specification["workspace"]) if p["viewType"] == "Vega2"]
    tables = {
        json.dumps(chart["userQuery"]).split('"tableKey", "value": "')[1]: chart for chart in charts
    }
    assert len(tables) == 4
    for table, chart in tables.items():
        wandbs = logged["_wandb.visualize." + table.split('_table"')[0]]
        for name in ("panelDefId", "fieldSettings", "transform"):
            assert chart[name] == wandbs[name], table
        ours, theirs = (c["userQuery"]["queryFields"][0]["fields"] for c in (chart, wandbs))
        assert sorted(f["name"] for f in ours) == sorted(f["name"] for f in theirs)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "monitor=val/acuracy",
            "val/acuracy: no run in {run} logged this key (section 'Sweeps'). Did you mean "
            "val/accuracy? Choose from: val/accuracy, val/auroc, ",
        ),
        ("metrics=loss,f2", "val/f2: no run in {run} logged this key (section 'Learning curves')"),
        (
            "columns=optimizer.ls",
            "optimizer.ls: no run in {run} has this option (section 'Sweeps')",
        ),
    ],
)
def test_a_key_that_no_run_logged_is_an_error_with_its_name(run, option, message):
    with pytest.raises(ConfigError) as error:
        dashboard(("team/project", f"run={run}", option))
    assert str(error.value).startswith(message.format(run=run))
    assert not Path("dashboard").exists()


def test_every_panel_is_checked(runs):
    """Each key of the dashboard is missed where no run has it."""
    built = build_dashboard("team", "project", "title", contents_of(runs))
    number = check_keys(built, runs, "runs")
    bases = {key.partition(".")[0] for run in runs for key in run.keys}
    missed = set()
    for base in sorted(bases):
        without = [
            run._replace(keys=frozenset(k for k in run.keys if k.partition(".")[0] != base))
            for run in runs
        ]
        try:
            assert check_keys(built, without, "runs") == number
        except ConfigError:
            missed.add(base)
    expected = {"test/confusion_matrix_table", "test/roc_table", "test/precision_recall_table"}
    expected |= {"test/top_losses", "test/per_class", "sweep/runs", "epoch", "trainer/global_step"}
    expected |= {"plots/confusion_matrix", "gradient_flow/layer0_forward_table", "lr"}
    assert expected <= missed
    assert len(missed) >= 20
    assert all("plots/gradient_flow" in run.keys for run in runs if not run.job_type)
    no_flow = [
        run._replace(keys=frozenset(k for k in run.keys if "/distance_" not in k)) for run in runs
    ]
    with pytest.raises(ConfigError, match=r"^gradient_flow/\.\*/distance_"):
        check_keys(built, no_flow, "runs")


def test_a_search_has_its_importances(runs):
    summary = next(run for run in runs if run.job_type == "sweep-summary")
    table = "importances/val/accuracy_table"
    searched = [*runs, summary._replace(keys=summary.keys | {table})]
    built = build_dashboard("team", "project", "title", contents_of(searched))
    text = json.dumps(built.specifications()["report"])
    assert "Share of each option in val/accuracy" in text
    check_keys(built, searched, "runs")
    with pytest.raises(ConfigError, match=rf"^{table}: no run in runs logged this key"):
        check_keys(built, runs, "runs")


def test_one_run_of_a_sweep_has_no_table_of_the_sweep(run):
    dashboard(("team/テスト é", f"run={run}", "columns=optimizer.lr", "metrics=loss"))
    report = read(Path("dashboard/report.json"))
    assert report["project"] == "テスト é"
    text = json.dumps(report)
    assert "sweep/runs" not in text and "test/top_losses" in text
    assert "config:optimizer.value.lr" in text and "val/f1" not in text


def test_runs_with_any_number_of_labels_have_their_own_metrics(multilabel_run):
    dashboard(("team/project", f"run={multilabel_run}"))
    text = Path("dashboard/workspace.json").read_text()
    assert '"val/map"' in text and '"val/f1_micro"' in text
    assert "auroc" not in text and "confusion_matrix" not in text and "gradient_flow" not in text
    assert '"lr"' not in text  # too few steps for a row of them


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no project; give <entity>/<project>, as in "),
        (("project",), "project: not a W&B project; give <entity>/<project>"),
        (("team/project/more",), "team/project/more: not a W&B project; give <entity>/<project>"),
        (("/project",), "/project: not a W&B project"),
        (("team/a:b",), "a:b: W&B has names of up to 128 characters"),
        (("team/" + "a" * 129,), "a" * 129 + ": W&B has names of up to 128 characters"),
        (("team/project", "other/project"), "other/project: expected name=value. Choose from: "),
        (("team/project", "ouput=x"), "ouput: no such option. Did you mean output? Choose from: "),
        (("team/project", "run="), "run=: no value given"),
        (("team/project", "run=a", "run=b"), "run: given twice"),
        (("team/project", "team/project"), "team/project: expected name=value. Choose from: "),
        (("team/project", "run=nowhere"), "run=nowhere: no such folder"),
        (("team/project", "run=."), "run=.: no W&B run in this folder; train with logger=wandb"),
        (("team/project", "metrics=loss,"), "metrics=loss,: expected different names with commas"),
        (("team/project", "output=file"), "file/workspace.json: cannot be written: "),
        (("team/project", "title=\N{ROCKET}"), "title=\N{ROCKET}: W&B refuses it: "),
    ],
)
def test_a_mistake_is_one_line(arguments, message, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as error:
        dashboard(arguments)
    assert str(error.value).removeprefix(f"{tmp_path}/").startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\0" * 100])
def test_a_damaged_file_of_wandb_is_one_line(content):
    file = Path("wandb/offline-run-20260101_000000-abc/run-abc.wandb")
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run-abc\.wandb: not a readable W&B run: ") as error:
        dashboard(("team/project", "run=."))
    assert "\n" not in str(error.value)


def test_a_run_that_was_killed_is_read_up_to_its_last_record(run):
    file = next(run.glob("wandb/offline-*/run-*.wandb"))
    cut = Path("offline-run-20260101_000000-abc") / file.name
    cut.parent.mkdir()
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    (cut_off,) = read_logged_runs(Path(), "run=.")
    assert "lr" in cut_off.keys and "test/top_losses" not in cut_off.keys
    with pytest.raises(ConfigError, match=r"no run in \. logged this key"):
        dashboard(("team/project", "run=."))


@pytest.mark.parametrize("arguments", [(), ("output=there",)])
def test_nothing_is_sent_without_an_account_or_with_output(tmp_path, arguments):
    with wandb_server(["project"]) as server:
        account = {"WANDB_API_KEY": API_KEY} if arguments else {}
        done = WARM(
            *("dashboard", "team/project", *arguments),
            cwd=tmp_path,
            env={"WANDB_BASE_URL": server.url, "WANDB_MODE": "online"} | account,
        )
    assert server.paths == []
    if arguments:
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "there" / "report.json").exists()
    else:
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: no W&B account on this machine; run `")
        assert line.endswith("login` first, or write the specification with output=<folder>")


def save(
    tmp_path: Path, projects: list[str] | None, *, run: Any = WARM, **answers: bool
) -> tuple[Any, list, str]:
    """Save the dashboard of team/project in a local server; return what it received."""
    with wandb_server(projects, **answers) as server:
        done = run(
            *("dashboard", "team/project"),
            cwd=tmp_path,
            env={"WANDB_BASE_URL": server.url, "WANDB_API_KEY": API_KEY, "WANDB_MODE": "online"},
        )
    return done, server.saved, server.url


def test_files_of_another_kind_are_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        dashboard(("team/project", "output=out"))
    Path("out/report.json").write_text('{"my": "report"}')
    workspace = Path("out/workspace.json").read_bytes()
    with pytest.raises(
        ConfigError, match=r"^output=out: out/report\.json: exists and is not the s"
    ):
        dashboard(("team/project", "output=out", "title=other"))
    assert Path("out/report.json").read_text() == '{"my": "report"}'
    assert Path("out/workspace.json").read_bytes() == workspace


def test_a_dashboard_is_saved_as_it_is_written(tmp_path):
    dashboard(("team/project", "output=."))
    done, saved, url = save(tmp_path, ["other", "project"], run=COLD)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[1].startswith(f"Workspace: {url}/team/project?nw=")
    assert lines[2].startswith(f"Report: {url}/team/project/reports/RNN-Lab--")
    assert [view["type"] for view in saved] == ["project-view", "runs"]
    for view, name in zip(saved, ("workspace", "report"), strict=True):
        assert (view["entityName"], view["projectName"]) == ("team", "project")
        assert json.loads(view["spec"]) == read(Path(f"{name}.json"))["spec"]


@pytest.mark.parametrize(
    ("projects", "answers", "message"),
    [
        (["projects"], {}, "team/project: W&B has no such project. Did you mean projects?"),
        ([], {}, "team: W&B has no project of this entity that this account may see"),
        (None, {}, "team: W&B has no such entity that this account may see"),
        (
            ["project"],
            {"refuses_reports": True},
            "permission denied; the workspace is saved, the report is not",
        ),
    ],
)
def test_what_wandb_refuses_is_one_line(tmp_path, projects, answers, message):
    done, saved, _ = save(tmp_path, projects, **answers)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert len(saved) == len(answers)


@pytest.mark.slow
def test_without_a_network_it_is_one_line(tmp_path):
    place = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": API_KEY}
    done = run_command(
        *("src/rnn_lab/__main__.py", "dashboard", "team/project"),
        cwd=tmp_path,
        env=place | {"WANDB_HTTP_TIMEOUT": "1"},  # W&B's client tries again for so many seconds
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: team/project: W&B at http://127.0.0.1:9 failed: ")
