"""The commands of `rnn-lab`: train, eval, predict, explain, export, report, dashboard and serve.

train.py, eval.py, predict.py and explain.py in a clone call the same functions. Each imports what
it needs when it is called, so that help pages and mistakes do not wait for torch, nor the label of
one text for Hydra.
"""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnn_lab import __version__
from rnn_lab.errors import UserError, exit_with, exiting_on_errors
from rnn_lab.fast_import import fast_imports
from rnn_lab.io.atomic import os_error_line
from rnn_lab.io.streams import fault_tolerant_streams
from rnn_lab.plain_options import plain_options
from rnn_lab.process import tuned_torch
from rnn_lab.validation import unknown_choice_message

if TYPE_CHECKING:
    from rnn_lab.cli import Task

USAGE = """Train and understand LSTM and GRU text classifiers.

usage: {program} COMMAND [OPTION=VALUE ...]

  train     train a text classifier, or many: a sweep, a search
  eval      test a trained run
  predict   label texts with a trained run
  explain   show why a trained run labels a text as it does
  export    write a trained run as one file, .safetensors or .onnx, with a model card
  report    write a web page of one run, or of a sweep to compare its runs
  dashboard save a W&B workspace and report of a project's runs
  serve     answer requests with trained runs: a web page and a JSON API

`{program} COMMAND --help` shows the options of a command with examples."""


def hydra_command(config_name: str, **how: Any) -> "Callable[[Task], Callable[[], None]]":
    """Turn a task into a command without arguments, see rnn_lab.cli.HydraCommand."""

    def decorate(task: "Task") -> Callable[[], None]:
        @functools.wraps(task)
        def program() -> None:
            from rnn_lab.cli import HydraCommand  # it imports Hydra

            HydraCommand(task, config_name, **how).main()

        return program

    return decorate


@hydra_command("train", sweepable=True)
def train(options: dict[str, Any]) -> None:
    """Train, test and report one run."""
    from rnn_lab.sweeps.composed_run import composed_run
    from rnn_lab.training.retry import retry_run

    retry_run(composed_run(options))


@hydra_command("eval")
def evaluate(options: dict[str, Any]) -> None:
    """Test one run on its own test split or on other texts."""
    from hydra.core.hydra_config import HydraConfig

    with fast_imports():
        from rnn_lab.inference.evaluate import evaluate

    evaluate(options | {"output_dir": HydraConfig.get().runtime.output_dir})


def predict() -> None:
    """Label one text, or every row of a file or of many."""
    options = plain_options(
        "predict", sys.argv[1:], text=["text"], paths=["run", "device"], numbers=["top_k"]
    )
    if options is None or "HYDRA_FULL_ERROR" in os.environ:
        _predict_with_hydra()
    else:
        _predict_plain(options)


@hydra_command("predict", raw_args=("text",), prints_result=True, reports_failures=True)
def _predict_with_hydra(options: dict[str, Any]) -> None:
    from rnn_lab.inference.predict import predict

    predict(options)


@fault_tolerant_streams(prints_result=True)
@tuned_torch()
def _predict_plain(options: dict[str, Any]) -> None:
    from rnn_lab.inference.predict import predict

    with exiting_on_errors(_line_of):
        predict(options)


def _line_of(error: Exception) -> str | None:
    """Return what to print for an error that the user can fix; None for a fault of the program."""
    return str(error) if isinstance(error, UserError) else os_error_line(error, Path.cwd())


@hydra_command("explain", raw_args=("text", "label"))
def explain(options: dict[str, Any]) -> None:
    """Explain one prediction in a page of words, gates and states."""
    from rnn_lab.inference.explain import explain

    explain(options)


def _run_plain(
    command: Callable[[Sequence[str]], None], usage: str, arguments: Sequence[str] | None
) -> None:
    """Run a command without Hydra, or print its usage; `arguments` None are those of sys.argv."""
    given = sys.argv[1:] if arguments is None else arguments
    if "--help" in given or "-h" in given:
        print(usage)
        return
    with exiting_on_errors(_line_of):
        command(given)


@fault_tolerant_streams()
def export(arguments: Sequence[str] | None = None) -> None:
    """Write a trained run as one file, .safetensors or .onnx."""
    from rnn_lab.inference.export import USAGE, export

    def export_and_print(given: Sequence[str]) -> None:
        exported = export(given)
        print(f"exported to {exported.path}")
        if exported.compared is not None:
            print(exported.compared)
        print(f"model card: {exported.card}")

    _run_plain(export_and_print, USAGE, arguments)


@fault_tolerant_streams()
def report(arguments: Sequence[str] | None = None) -> None:
    """Compare the runs of a sweep, or write the page of one run."""
    from rnn_lab.inference.top_losses import attribute_top_losses
    from rnn_lab.reports.command import USAGE, report

    _run_plain(lambda given: report(given, attribute_top_losses), USAGE, arguments)


@fault_tolerant_streams()
def dashboard(arguments: Sequence[str] | None = None) -> None:
    """Save a W&B workspace and report, or write their specifications."""
    from rnn_lab.tracking.dashboard_command import USAGE, dashboard

    _run_plain(dashboard, USAGE, arguments)


@hydra_command("serve")
def serve(options: dict[str, Any]) -> None:
    """Serve runs as a web page and a JSON API."""
    from rnn_lab.serving.serve import serve

    serve(options)


COMMANDS: dict[str, Callable[[], None]] = {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "explain": explain,
    "export": export,
    "report": report,
    "dashboard": dashboard,
    "serve": serve,
}


def main() -> None:
    """Run the command that sys.argv names."""
    program = "python -m rnn_lab" if sys.argv[0].endswith("__main__.py") else "rnn-lab"
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(USAGE.format(program=program))
    elif name in ("--version", "-V"):
        print(f"rnn-lab {__version__}")
    elif name in COMMANDS:
        sys.argv = [f"{program} {name}", *arguments]
        COMMANDS[name]()
    else:
        exit_with(unknown_choice_message(f"{name}: no such command", name, list(COMMANDS)))
