"""Measure what each part of a recipe is worth: `python benchmarks/ablation.py`.

The recipe is trained by train.py as it is, without each of its parts, and with each of further
options, on the same seeds. Accuracy is that of validation, on a fifth of the training reviews; the
test split is not read. Differences to the recipe are paired by seed: both runs have the same
reviews. The command resumes: a run that is complete is not made again.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np

from benchmarks.contenders import PROJECT
from benchmarks.machine import describe_machine
from benchmarks.tables import markdown_table, report

RECIPE = "the recipe"
# What replaces the options of experiment=imdb_fast.
CHANGES: dict[str, tuple[str, ...]] = {
    RECIPE: (),
    "without the n-grams": ("model.ngrams=0", "model.ngram_weighting=tfidf"),
    "without the network's maximum and mean: `model.pooling=last`": ("model.pooling=last",),
    "without its last state and mean: `model.pooling=max`": ("model.pooling=max",),
    "`model.pooling=attention`": ("model.pooling=attention",),
    "without the beginning of long reviews: `data.truncation_side=left`": (
        "data.truncation_side=left",
    ),
    "`data.max_length=600`": ("data.max_length=600",),
    "without averaged weights: `trainer.ema_decay=null`": ("trainer.ema_decay=null",),
    "`model.bidirectional=true`": ("model.bidirectional=true",),
    "`model.hidden_size=256`": ("model.hidden_size=256",),
    "`model=lstm`": ("model=lstm",),
    "`model.word_dropout=0.2`": ("model.word_dropout=0.2",),
    "`model.variational_dropout=true`": ("model.variational_dropout=true",),
    "`trainer.label_smoothing=0.1`": ("trainer.label_smoothing=0.1",),
    "`loss.adversarial=1`": ("loss.adversarial=1",),
    "`loss.r_drop=1`": ("loss.r_drop=1",),
    "one epoch more: `trainer.max_epochs=3`": ("trainer.max_epochs=3",),
}
NOTES = """\
`train.py experiment={recipe} data.val_fraction=0.2 test=false`, seeds {seeds}: accuracy on \
{size:,} validation reviews of films that training does not have, in percent, with the standard \
deviation over the seeds. Difference: to the recipe, in points, by seed, with its standard error."""


def main() -> None:
    """Train what is missing and print the table, and write it to --markdown."""
    options = parse()
    found = {name: measure(name, options) for name in options.changes or CHANGES}
    size = next(iter(found.values()))[0]["data"]["num_examples"]["validation"]
    seeds = ", ".join(map(str, options.seeds))
    notes = NOTES.format(recipe=options.recipe, seeds=seeds, size=size)
    table = markdown_table(*table_of(found))
    report([describe_machine(options.threads), notes, table], options.markdown)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="imdb_fast", metavar="NAME", help="of conf/experiment")
    parser.add_argument("--changes", nargs="+", choices=list(CHANGES), metavar="CHANGE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="SEED")
    parser.add_argument(
        "--override", nargs="*", default=[], metavar="OPTION=VALUE", help="of every run"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), metavar="FOLDER")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    options = parser.parse_args()
    if options.changes and RECIPE not in options.changes:
        options.changes = [RECIPE, *options.changes]
    return options


def measure(name: str, options: argparse.Namespace) -> list[Mapping[str, Any]]:
    """Return the result.json of each seed, in order; train those that are missing.

    Raises:
        SystemExit: a run failed.
    """
    results = []
    for seed in options.seeds:
        run = options.runs / f"{options.recipe}-{list(CHANGES).index(name)}-{seed}"
        path = run / "result.json"
        if not path.exists():
            print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
            train(run.resolve(), seed, (*CHANGES[name], *options.override), options)
        results.append(json.loads(path.read_text(encoding="utf-8")))
        print(f"  {100 * results[-1]['val/accuracy']:.2f} %", file=sys.stderr, flush=True)
    return results


def train(run: Path, seed: int, overrides: Sequence[str], options: argparse.Namespace) -> None:
    """Train one run in a process of its own; an interrupted one is resumed."""
    command = [
        *(sys.executable, str(PROJECT / "train.py"), f"experiment={options.recipe}"),
        *("data.val_fraction=0.2", "test=false", "baseline=none", "plots=false", "logger=none"),
        *(f"seed={seed}", f"hydra.run.dir={run}", f"data.cache_dir={options.cache_dir.resolve()}"),
        *overrides,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def table_of(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and a row for each change."""
    accuracies = {name: _accuracies(results) for name, results in found.items()}
    rows = []
    for name, results in found.items():
        seconds = np.mean([result["timing"]["wall_time_s"] for result in results])
        difference = accuracies[name] - accuracies[RECIPE]
        error = _spread(difference) / len(difference) ** 0.5
        shown = "" if name == RECIPE else f"{difference.mean():+.2f} ± {error:.2f}"
        mean, spread = accuracies[name].mean(), _spread(accuracies[name])
        rows.append([name, f"{mean:.2f} ± {spread:.2f}", shown, f"{seconds:,.0f}"])
    return ["", "accuracy", "difference", "seconds"], rows


def _accuracies(results: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return 100 * np.array([result["val/accuracy"] for result in results])


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
