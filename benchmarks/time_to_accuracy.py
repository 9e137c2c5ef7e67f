"""Measure the time to 88 % test accuracy: `python benchmarks/time_to_accuracy.py`.

Ours is a complete run: Lightning's Trainer as train.py builds it, with validation, checkpoints and
the default options; the clock starts before the encoded reviews are opened (the cache is warm). A
peer is a bare loop with the same network, batches, optimizer, learning rates and gradient clipping
and a recurrent layer of its own. Test accuracy is measured every quarter of an epoch with the clock
stopped: it ends the race and selects nothing.
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import hydra
from omegaconf import OmegaConf

from benchmarks.contenders import PROJECT
from benchmarks.machine import describe_machine, prepare_process
from benchmarks.races import Curve, Goal, race_keras, race_ours, race_packed
from benchmarks.tables import markdown_table, report
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.training.config import RunConfig
from rnn_lab.training.recipe import resolve_recipe
from rnn_lab.training.trainer import silence_lightning
from rnn_lab.validation import validate

OURS, PACKED, KERAS = "ours", "torch, packed", "Keras"
HEADER = ("model", "contender", "accuracy", "reached after", "speedup of ours", "best", "at")
NOTES = """\
Default options of train.py; test accuracy is measured every quarter of an epoch with the clock \
stopped. Ours: a run's whole training (Lightning, validation, checkpoints), from a warm cache. \
Peers: bare loops with the same network, batches, optimizer and learning rates, in processes of \
their own, stopped after {limit:g} seconds."""


def main() -> None:
    """Measure, print the table, and write it to --markdown."""
    options = parse()
    prepare_process(options.threads)
    silence_lightning()
    goal = Goal(options.accuracy, options.limit)
    rows = []
    for model in options.models:
        config = compose(model, options)
        data = TextDataModule(config.data, seed=config.seed, allow_fallback=True)
        data.setup()  # warms the cache
        config = resolve_recipe(config, data).model_copy(update={"data": data.config})
        curves: dict[str, Curve] = {OURS: race_ours(config, goal)}
        if options.packed:
            curves[PACKED] = race_packed(config, goal, options.threads)
        if options.keras:
            curves[KERAS] = race_keras(config, data, goal, options.threads)
        rows += [row(model, name, curves, options.accuracy) for name in curves]
    paragraphs = [
        describe_machine(options.threads) + f"; reviews: {data.corpus.name}",
        NOTES.format(limit=options.limit),
        markdown_table(HEADER, rows),
    ]
    report(paragraphs, options.markdown)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    has_keras = importlib.util.find_spec("keras") is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    models = ["lstm", "gru"]
    parser.add_argument("--models", nargs="+", default=models, choices=[*models, "rnn"])
    parser.add_argument("--accuracy", type=float, default=0.88, help="of the test split")
    parser.add_argument("--limit", type=float, default=1500, help="seconds per peer")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--packed", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--keras", action=argparse.BooleanOptionalAction, default=has_keras)
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    parser.add_argument("overrides", nargs="*", help="options of train.py, such as data=demo")
    options = parser.parse_args()
    if options.keras and not has_keras:
        parser.error("--keras: not installed; pip install -r requirements-benchmark.txt")
    return options


def compose(model: str, options: argparse.Namespace, trainer: str = "cpu") -> RunConfig:
    """Compose the default config of train.py, on the CPU or as `trainer` says."""
    fixed = [f"model={model}", f"trainer={trainer}", "logger=none"]
    fixed += ["trainer.enable_progress_bar=false"]
    fixed += [f"data.cache_dir={options.cache_dir.resolve()}"]
    with hydra.initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = hydra.compose("train", overrides=[*fixed, *options.overrides])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return validate(RunConfig, plain)


def row(model: str, name: str, curves: dict[str, Curve], accuracy: float) -> tuple[str, ...]:
    """Return one contender's row below HEADER."""

    def reached(curve: Curve) -> float | None:
        return next((seconds for seconds, tested in curve if tested >= accuracy), None)

    ours, own = reached(curves[OURS]), reached(curves[name])
    ended = curves[name][-1][0]
    best_at, best = max(curves[name], key=lambda point: point[1])
    ratio = "-"
    if ours is not None and name != OURS:
        ratio = f"{own / ours:.1f}x" if own is not None else f"more than {ended / ours:.1f}x"
    return (
        model,
        name,
        f"{100 * accuracy:g} %",
        f"{own:,.0f} s" if own is not None else f"not in {ended:,.0f} s",
        ratio,
        f"{100 * best:.2f} %",
        f"{best_at:,.0f} s",
    )


if __name__ == "__main__":
    main()
