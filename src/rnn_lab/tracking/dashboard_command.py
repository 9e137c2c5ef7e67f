"""The `dashboard` command: save a W&B workspace and report, or write their specifications."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rnn_lab.errors import ConfigError, UserError, sanitize, whole_message
from rnn_lab.io.atomic import read_json, write_json
from rnn_lab.io.replace import check_replaceable
from rnn_lab.overrides import parse_arguments
from rnn_lab.paths import local_path, wandb_prefix
from rnn_lab.plugins import require_extra
from rnn_lab.reports.command import find_output_dir
from rnn_lab.tracking.config import WandbConfig
from rnn_lab.tracking.logged_runs import LoggedRun, read_logged_runs
from rnn_lab.tracking.wandb_environment import (
    LONGEST_NAME,
    environment_settings,
    requested_mode,
)
from rnn_lab.validation import unknown_choice_message

if TYPE_CHECKING:
    from rnn_lab.tracking.dashboard import Contents, Dashboard

USAGE = """rnn-lab dashboard <entity>/<project> [run=<folder>] [output=<folder>] [OPTION=VALUE ...]
  Save a workspace and a report in a W&B project: learning curves, throughput and learning rate by
  model, parallel coordinates and importances of options, the metrics, confusion matrices and
  mistakes of the test split, and the gradient flow. Each call saves new ones.
  run: folder of a run or of a sweep with W&B's files. The dashboard shows what such runs log, and
    every key of its panels is checked: a key that no run logged is an error. Without it the
    dashboard is that of runs with one label a text, and nothing is checked
  output: write workspace.json and report.json to this folder and send nothing. With
    WANDB_MODE=offline, the default is the folder dashboard
  metrics: metrics with curves and bars, such as loss,accuracy,f1
  monitor: the metric that options are compared by; default: val/accuracy
  columns: options in the parallel coordinates, such as optimizer.lr,model.hidden_size; default:
    those that the sweep of run varies
  title: default: RNN Lab

It needs `pip install '<clone or wheel>[dashboard]'` and, without output, `wandb login`."""

OPTIONS = ("run", "output", "metrics", "monitor", "columns", "title")
_TARGET = "give <entity>/<project>, as in https://wandb.ai/<entity>/<project>"
_FORBIDDEN = set("/\\#?%:")
_TIMEOUT = 20  # seconds for one request, unless WANDB_HTTP_TIMEOUT has others


def dashboard(arguments: Sequence[str]) -> None:
    """Save or write the dashboard that `arguments` ask for.

    Raises:
        ConfigError: an argument is malformed, a key was not logged, or W&B refuses the dashboard.
        WriteError: a specification cannot be written.
    """
    entity, project, options = _parse(arguments)
    output = _output(options)
    if output is not None:
        _check_replaceable(output, options)
    require_extra("dashboard", "dashboard")
    if output is None:
        _require_account()
    from rnn_lab.tracking.dashboard import build_dashboard, check_keys

    runs: list[LoggedRun] = []
    if "run" in options:
        runs = read_logged_runs(find_output_dir(options["run"]), f"run={options['run']}")
    shown, title = _contents(options, runs), options.get("title", "RNN Lab")
    try:
        built = build_dashboard(entity, project, title, shown)
    except ValidationError as error:
        raise ConfigError(f"title={title}: W&B refuses it: {error.errors()[0]['msg']}") from error
    if runs:
        number = check_keys(built, runs, options["run"])
        print(f"Checked: {number} keys, which the W&B runs in {options['run']} logged")
    else:
        print("Not checked: run=<folder> compares the keys with those that a run logged")
    if output is None:
        _save(built)
    else:
        for name, specification in built.specifications().items():
            write_json(output / f"{name}.json", specification)
            print(f"{name.capitalize()}: {output / name}.json")


def _parse(arguments: Sequence[str]) -> tuple[str, str, dict[str, str]]:
    """Return entity, project and the options given as name=value."""
    given = list(arguments)
    target = next((argument for argument in given if "=" not in argument), None)
    if target is None:
        raise ConfigError(f"no project; {_TARGET}")
    given.remove(target)
    options = parse_arguments(given, OPTIONS)
    parts = target.split("/")
    if len(parts) != 2 or not all(parts):
        raise ConfigError(f"{target}: not a W&B project; {_TARGET}")
    for part in parts:
        if len(part) > LONGEST_NAME or not _FORBIDDEN.isdisjoint(part) or not part.isprintable():
            raise ConfigError(
                f"{sanitize(part)}: W&B has names of up to {LONGEST_NAME} characters, "
                "without / \\ # ? % :"
            )
    return parts[0], parts[1], options


def _output(options: dict[str, str]) -> Path | None:
    """Return the folder to write to; None: save the dashboard in W&B."""
    if "output" in options:
        return local_path(options["output"])
    mode, _ = requested_mode(WandbConfig(name="wandb"))
    return Path("dashboard") if mode in ("offline", "disabled") else None


def _check_replaceable(output: Path, options: dict[str, str]) -> None:
    def is_ours(path: Path) -> bool:
        return (read_json(path) or {}).keys() == {"entity", "project", "title", "spec"}

    for name in ("workspace.json", "report.json"):
        option = f"output={options.get('output', output)}"
        check_replaceable(output / name, option, "the specification of a dashboard", is_ours)


def _names(option: str, text: str) -> list[str]:
    """Return the names in a list with commas."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(f"{option}={text}: expected different names with commas between them")
    return names


def _contents(options: dict[str, str], runs: list[LoggedRun]) -> "Contents":
    from rnn_lab.tracking.dashboard import Contents, contents_of

    shown = contents_of(runs) if runs else Contents()
    lists: dict[str, Any] = {
        name: _names(name, options[name]) for name in ("metrics", "columns") if name in options
    }
    return replace(shown, monitor=options.get("monitor", shown.monitor), **lists)


def _require_account() -> None:
    """Make sure that there is a W&B account, without a prompt or a request.

    Raises:
        ConfigError: there is none; says how to log in and how to do without. Or a setting of W&B's
            environment is impossible.
    """
    import wandb

    os.environ["WANDB_SILENT"] = "true"  # its lines about the account and what is saved
    environment_settings()
    if not wandb.login(prompt=False, verify=False):
        raise ConfigError(
            f"no W&B account on this machine; run `{wandb_prefix()} login` first, or write the "
            "specification with output=<folder>"
        )


def _save(built: "Dashboard") -> None:
    """Save the workspace, then the report.

    Raises:
        ConfigError: W&B cannot be reached or refuses; says what is saved by then.
    """
    import wandb

    entity, project = built.workspace.entity, built.workspace.project
    saved = ""
    try:
        api = wandb.Api(timeout=wandb.env.get_http_timeout(_TIMEOUT))
        _check_project(api, entity, project)
        print(f"Workspace: {built.workspace.save().url}", flush=True)
        saved = "; the workspace is saved, the report is not"
        print(f"Report: {built.report.save().url}")
    except UserError:
        raise
    except Exception as error:  # W&B's client raises classes without a common one
        reason = sanitize(whole_message(error))
        host = wandb.setup().settings.base_url
        raise ConfigError(f"{entity}/{project}: W&B at {host} failed: {reason}{saved}") from error


def _check_project(api: Any, entity: str, project: str) -> None:
    """Make sure that W&B has the project: saving a report would create a missing one.

    Raises:
        ConfigError: it has not, or the account may not see it.
    """
    try:
        names = [found.name for found in api.projects(entity)]
    except ValueError as error:  # the answer has no projects
        raise ConfigError(f"{entity}: W&B has no such entity that this account may see") from error
    if not names:
        raise ConfigError(f"{entity}: W&B has no project of this entity that this account may see")
    if project not in names:
        problem = f"{entity}/{project}: W&B has no such project"
        raise ConfigError(unknown_choice_message(problem, project, names))
