"""Explicit options, W&B's environment and our defaults, in this order."""

import json
from pathlib import Path

import pytest

from rnn_lab.errors import ConfigError
from rnn_lab.tracking.config import WandbConfig
from rnn_lab.tracking.loggers import build_loggers
from rnn_lab.tracking.wandb_environment import requested_mode, shorten_name, wandb_is_off
from rnn_lab.training.config import RunConfig
from rnn_lab.validation import validate
from tests.cli.forked import run_warm_command
from tests.cli.runner import inspect_wandb
from tests.training.small_trainer import OPTIONS

TINY = (
    *("experiment=smoke", "logger=wandb", "model=rnn", "model.hidden_size=4", "plots=false"),
    *("data.num_train=60", "data.num_test=20", "trainer.max_epochs=1", "hydra.run.dir=run"),
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)


def config(mode: str = "auto") -> WandbConfig:
    return validate(WandbConfig, {"name": "wandb", "mode": mode})


@pytest.mark.parametrize(
    ("option", "variables", "mode"),
    [
        ("auto", {}, "auto"),
        ("auto", {"WANDB_MODE": ""}, "auto"),
        ("auto", {"WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "dryrun"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("auto", {"WANDB_DISABLED": "true"}, "disabled"),
        ("auto", {"WANDB_DISABLED": "1", "WANDB_MODE": "online"}, "disabled"),
        ("auto", {"WANDB_DISABLED": "false", "WANDB_MODE": "online"}, "online"),
        ("offline", {"WANDB_MODE": "disabled", "WANDB_DISABLED": "true"}, "offline"),
        ("disabled", {"WANDB_MODE": "online"}, "disabled"),
    ],
)
def test_an_explicit_mode_wins_over_the_environment(monkeypatch, option, variables, mode):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert requested_mode(config(option))[0] == mode
    assert (wandb_is_off(config(option)) is not None) == (mode == "disabled")


def test_an_unknown_mode_is_refused_by_name(monkeypatch):
    for given in ("of", "Offline", "DISABLED"):  # W&B refuses capitals too
        monkeypatch.setenv("WANDB_MODE", given)
        with pytest.raises(
            ConfigError, match=rf"^WANDB_MODE={given}: .*Choose from: disabled, off"
        ):
            wandb_is_off(config())


def test_wandb_that_is_off_is_one_line_and_no_logger(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert len(build_loggers(config(), tmp_path, {})) == 1  # metrics.csv
    assert capsys.readouterr().out == "W&B is off: WANDB_MODE=disabled\n"


def test_names_keep_both_ends():
    assert shorten_name("a" * 128) == "a" * 128
    shown = shorten_name("begin" + "a" * 130 + "end")
    assert len(shown) <= 128 and shown.startswith("begin") and shown.endswith("end")


@pytest.mark.parametrize("tag", ["", "a" * 65])
def test_a_tag_that_wandb_refuses_is_refused_at_once_but_only_for_wandb(tag):
    with pytest.raises(ConfigError, match=r"^tags: W&B takes tags of 1 to 64 characters, not "):
        validate(RunConfig, OPTIONS | {"tags": [tag], "logger": {"name": "wandb"}})
    assert validate(RunConfig, OPTIONS | {"tags": [tag]}).tags == (tag,)


@pytest.mark.parametrize("project", ["", "a/b", "a" * 129])
def test_a_project_that_wandb_refuses_is_refused_at_once(project):
    with pytest.raises(ConfigError, match=r"^project.*: give 1 to 128 characters"):
        validate(WandbConfig, {"name": "wandb", "project": project})


ENVIRONMENT = {
    **{"WANDB_PROJECT": "of-env", "WANDB_ENTITY": "team", "WANDB_RUN_GROUP": "group-of-env"},
    **{"WANDB_NAME": "name-" + "x" * 130, "WANDB_TAGS": "one,two", "WANDB_DIR": "elsewhere"},
    "WANDB_MODE": "offline",
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"project": "of-env", "entity": "team", "run_group": "group-of-env"}),
        (
            ("logger.project=mine", "logger.group=ours", "tags=[three]", "name=given"),
            {"project": "mine", "entity": "team", "run_group": "ours", "display_name": "given"},
        ),
    ],
)
def test_an_offline_run_has_the_settings_of_the_environment(tmp_path, options, expected):
    done = run_warm_command("train.py", *TINY, *options, cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    (offline,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    records = [json.loads(line) for line in inspect_wandb(offline).splitlines()]
    run = next(record["run"] for record in records if record["type"] == "run")
    assert expected.items() <= run.items()
    assert ("three" in run["tags"]) is bool(options)
    assert ({"one", "two"} <= set(run["tags"])) is not bool(options)
    if not options:
        assert run["display_name"] == shorten_name(ENVIRONMENT["WANDB_NAME"])
        assert "W&B takes names of up to 128 characters: 'name-xxx" in done.stdout
    assert "WANDB_DIR has no effect" in done.stdout

    model = next(
        record["artifact"]
        for record in records
        if record["type"] == "artifact" and record["artifact"]["type"] == "model"
    )
    (file,) = model["manifest"]["contents"]
    assert Path(file["local_path"]) == tmp_path / "run" / "checkpoints" / "best.ckpt"
    assert file["skip_cache"]
    copies = [path for path in tmp_path.rglob("tmp*") if "staging" in path.parts]
    assert not any(path.read_bytes().startswith(b"PK") for path in copies)  # a checkpoint


@pytest.mark.parametrize(
    ("name", "value"), [("WANDB_TAGS", "a," + "b" * 65), ("WANDB_PROJECT", "a/b")]
)
def test_an_impossible_variable_is_one_line_before_training(tmp_path, name, value):
    done = run_warm_command("train.py", *TINY, cwd=tmp_path, env={name: value})
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert line.startswith(f"error: {name}")
    assert not (tmp_path / "run" / "checkpoints").exists()
