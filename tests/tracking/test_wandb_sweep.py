"""A W&B sweep drives train.py: its agent's commands, and what becomes of its parameters and ids."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rnn_lab.tracking.dashboard import contents_of
from rnn_lab.tracking.dashboard_command import dashboard
from rnn_lab.tracking.logged_runs import read_logged_runs
from tests.cli.forked import run_warm_command
from tests.cli.runner import PROJECT, inspect_wandb
from tests.test_conf import CONF, composed
from tests.tracking.wandb_page import commands_not_run

SWEEP = yaml.safe_load((CONF / "wandb_sweep.yaml").read_text())
# What an agent sets for its runs, and an offline mode.
AGENT = {
    **{"WANDB_SWEEP_ID": "abcd1234", "WANDB_PROJECT": "of-sweep", "WANDB_ENTITY": "team"},
    **{"WANDB_MODE": "offline"},
}
SMALL = (
    *("experiment=smoke", "logger=wandb", "model.hidden_size=4", "plots=false"),
    *("data.num_train=60", "data.num_test=20"),
)


def values(parameter: dict[str, Any]) -> list[Any]:
    """Return the values of a parameter, of a range its ends."""
    return parameter.get("values") or [parameter["min"], parameter["max"]]


def logged(run: Path) -> dict[str, Any]:
    """Return the record of the W&B run in that folder, as W&B reads it."""
    (offline,) = (run / "wandb").glob("offline-run-*")
    records = [json.loads(line) for line in inspect_wandb(offline).splitlines()]
    return next(record["run"] for record in records if record["type"] == "run")


def test_every_value_of_the_sweep_is_one_of_an_option():
    command = SWEEP["command"]
    fixed = [part for part in command if "${" not in part]
    assert command == ["${env}", "${interpreter}", "${program}", *fixed, "${args_no_hyphens}"]
    assert (PROJECT / SWEEP["program"]).is_file()
    space = {name: values(parameter) for name, parameter in SWEEP["parameters"].items()}
    longest = max(map(len, space.values()))
    for index in range(longest):
        chosen = {name: found[min(index, len(found) - 1)] for name, found in space.items()}
        config = composed(*fixed, *(f"{name}={value}" for name, value in chosen.items()))
        for name, value in chosen.items():
            group, option = name.split(".")
            assert getattr(getattr(config, group), option) == value
    assert SWEEP["metric"]["name"] == config.trainer.monitor == "val/accuracy"
    early = SWEEP["early_terminate"]
    assert early["min_iter"] * early["eta"] < config.trainer.max_epochs


def test_the_command_of_the_page_is_one_of_the_sweeps():
    (line,) = re.findall(r"^python train\.py model=lstm .*$", commands_not_run(), flags=re.M)
    arguments = line.split()[2:]
    fixed = [part for part in SWEEP["command"] if "${" not in part]
    assert arguments[: len(fixed)] == fixed
    names = [argument.partition("=")[0] for argument in arguments[len(fixed) :]]
    assert names == list(SWEEP["parameters"])
    assert "conf/wandb_sweep.yaml" in commands_not_run()


@pytest.fixture(scope="module")
def agents_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A run that W&B's agent has started: its folder, its parameters, and what it printed.

    The command is that of the file, with small demo reviews in place of IMDB.
    """
    cwd = tmp_path_factory.mktemp("agent")
    (cwd / "train.py").symlink_to(PROJECT / "train.py")
    fixed = [part for part in SWEEP["command"] if not part.startswith(("data=", "trainer."))]
    small = SWEEP | {"command": [*fixed[:3], *SMALL[:2], *SMALL[3:], *fixed[3:]]}
    (cwd / "sweep.yaml").write_text(yaml.safe_dump(small))
    parameters = {name: values(found)[0] for name, found in SWEEP["parameters"].items()}
    parameters["model.hidden_size"] = 4
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of ${interpreter}
    done = run_warm_command(
        *("tests/tracking/sweep_agent.py", "sweep.yaml", "run01234", json.dumps(parameters)),
        cwd=cwd,
        env=AGENT | {"PATH": path},
        warm_children=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = cwd.glob("runs/*/*")
    return folder, parameters, done.stdout


def test_the_agents_command_trains_with_the_parameters(agents_run):
    folder, parameters, said = agents_run
    result = json.loads((folder / "result.json").read_text())
    for name, value in parameters.items():
        group, option = name.split(".")
        assert result[group][option] == value
    assert "WANDB_DIR" not in said  # it is the agent's, and nothing to report


def test_the_run_is_the_agents(agents_run):
    folder, parameters, _ = agents_run
    run = logged(folder)
    assert (run["run_id"], run["project"], run["entity"]) == ("run01234", "of-sweep", "team")
    assert run["sweep_id"] == AGENT["WANDB_SWEEP_ID"]
    assert not run.get("display_name") and not run.get("run_group")
    config = run["config"]["update"]
    for name, value in parameters.items():  # as W&B compares them, and where every run has them
        group, option = name.split(".")
        assert config[name] == config[group][option] == value
    (run,) = read_logged_runs(folder, "run=")
    assert contents_of([run]).columns == sorted(parameters)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"project": "of-sweep", "display_name": ""}),
        (
            ("name=mine", "logger.project=other", "logger.group=ours"),
            {"project": "of-sweep", "display_name": "mine", "run_group": "ours"},
        ),
    ],
)
def test_a_parameter_that_is_a_group_keeps_the_groups_options(
    tmp_path, monkeypatch, options, expected
):
    """W&B puts its value, `lstm`, in place of the options of `model`."""
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("wandb_version: 1\nmodel:\n  value: lstm\n")
    agent = AGENT | {"WANDB_RUN_ID": "run56789", "WANDB_SWEEP_PARAM_PATH": str(parameters)}
    done = run_warm_command(
        *("train.py", *SMALL, "model=lstm", "hydra.run.dir=run", *options), cwd=tmp_path, env=agent
    )
    assert done.returncode == 0, done.stderr
    assert ("logger.project=other has no effect" in done.stdout) is bool(options)
    run = logged(tmp_path / "run")
    assert {key: run.get(key, "") for key in expected} == expected
    (found,) = read_logged_runs(tmp_path / "run", "run=run")
    assert found.config["model"] == found.config["model.name"] == "lstm"
    assert found.config["model.hidden_size"] == 4
    assert contents_of([found]).model == "model"
    monkeypatch.chdir(tmp_path)
    dashboard(("team/project", "run=run", "output=dashboard"))
    workspace = Path("dashboard/workspace.json").read_text()
    assert '"groupBy": "model.value"' in workspace and "model.value.name" not in workspace


def test_several_runs_in_one_command_of_an_agent_are_refused(tmp_path):
    arguments = ("train.py", "-m", *SMALL, "seed=1,2")
    done = run_warm_command(*arguments, cwd=tmp_path, env=AGENT)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: WANDB_SWEEP_ID: in a W&B sweep each command trains one run")
    assert not (tmp_path / "runs").exists()
