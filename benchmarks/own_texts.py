"""Compare the defaults for a user's own texts with TF-IDF: `python benchmarks/own_texts.py`.

Each set is trained as a new user would, `train.py data=files data.train_path=...`, in processes of
their own; every other option is a default. The baselines are those that each run fits on the same
training split and tests on the same rows.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np

from benchmarks.contenders import PROJECT
from benchmarks.machine import describe_machine
from benchmarks.tables import markdown_table, report
from rnn_lab.data.corpus import Split
from rnn_lab.data.sources.imdb import ImdbConfig, load_imdb
from rnn_lab.errors import MissingDataError

HEADER = (
    *("set", "training texts", "classes", "accuracy", "macro F1", "ensemble", "TF-IDF accuracy"),
    *("TF-IDF F1", "majority", "difference", "seconds"),
)
NOTES = """\
Default options of `train.py model={model} data=files`; mean and standard deviation over the seeds \
{seeds}. Ensemble: accuracy of the mean of their probabilities (`eval.py run=[...]`). TF-IDF: \
logistic regression on the same training split. Difference: accuracy of the network minus that of \
TF-IDF, in points. The seconds are those of one run with its baselines."""
# The real sets of the folder --root, as options of data=files.
SETS: dict[str, tuple[str, ...]] = {
    "ag_news": ("data.train_path={root}/ag_news.csv", "data.text_column=[1,2]"),
    "trec": (
        *("data.train_path={root}/trec_train.label", "data.test_path={root}/trec_test.label"),
        "data.label_column=coarse",
    ),
    "trec_fine": (
        *("data.train_path={root}/trec_train.label", "data.test_path={root}/trec_test.label"),
    ),
    "trec_hindi": (
        "data.train_path={root}/trec_hindi_train.label",
        "data.test_path={root}/trec_hindi_test.label",
        "data.label_column=coarse",
    ),
    "gnad": ("data.train_path={root}/gnad.csv",),
    "sst2": ("data.train_path={root}/sst2_train.tsv", "data.test_path={root}/sst2_test.tsv"),
    "rt_polarity": ("data.train_path=[{root}/rt-polarity.pos,{root}/rt-polarity.neg]",),
    "waimai": ("data.train_path={root}/waimai_10k.csv",),
}
IMDB_SIZES = (200, 500, 2_000, 8_000)
IMDB_TEST = 5_000  # test reviews of the sets that are cut from IMDB


@dataclass(frozen=True)
class Result:
    """One run, from its result.json."""

    examples: int
    classes: int
    accuracy: float
    f1: float
    tfidf: float
    tfidf_f1: float
    majority: float
    seconds: float


def main() -> None:
    """Train every set with every seed, print the table, and write it to --markdown."""
    options = parse()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, overrides in sets(options, Path(folder)):
            results, runs = [], []
            for seed in options.seeds:
                print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
                run = [*overrides, f"seed={seed}", f"model={options.model}", *options.override]
                runs.append(Path(folder) / "runs" / f"{name}-{seed}")
                results.append(train(run, Path(folder), runs[-1]))
            rows.append(line(name, results, ensemble(runs, Path(folder))))
            print("  " + " | ".join(rows[-1]), file=sys.stderr, flush=True)
    notes = NOTES.format(model=options.model, seeds=", ".join(map(str, options.seeds)))
    report(
        [describe_machine(options.threads), notes, markdown_table(HEADER, rows)], options.markdown
    )


def parse() -> argparse.Namespace:
    """Parse the command line."""
    names = [*SETS, *(f"imdb_{size}" for size in IMDB_SIZES)]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=names, default=names, metavar="SET")
    parser.add_argument("--root", type=Path, default=os.environ.get("OWN_TEXTS_ROOT"))
    parser.add_argument("--imdb", default=None, metavar="FOLDER", help="data.root of IMDB")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="SEED")
    parser.add_argument("--model", default="gru")
    parser.add_argument("--override", nargs="*", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    return parser.parse_args()


def sets(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the name of each set that is at hand, and the options that select it."""
    imdb: tuple[Split, Split] | None = None
    for name in options.sets:
        if name in SETS:
            if options.root is None:
                print(f"{name}: no folder of sets; give --root or OWN_TEXTS_ROOT", file=sys.stderr)
                continue
            yield name, [option.format(root=options.root) for option in SETS[name]]
            continue
        if imdb is None:
            imdb = load_splits(options.imdb, folder / "cache")
        if imdb is not None:
            yield name, cut_imdb(imdb, int(name.removeprefix("imdb_")), folder)


def load_splits(root: str | None, cache: Path) -> tuple[Split, Split] | None:
    """Return the training and the test reviews of IMDB, None where they are not on disk."""
    try:
        corpus = load_imdb(ImdbConfig(root=root, download=False, cache_dir=str(cache)))
    except MissingDataError as error:
        print(f"IMDB: {error}", file=sys.stderr)
        return None
    assert corpus.test is not None
    return corpus.train, corpus.test


def cut_imdb(splits: tuple[Split, Split], size: int, folder: Path) -> list[str]:
    """Write `size` training reviews, half of each class, and IMDB_TEST test reviews as CSV."""
    paths = []
    for split, count, name in zip(splits, (size, IMDB_TEST), ("train", "test"), strict=True):
        path = folder / f"imdb_{count}_{name}.csv"
        draw = random.Random(0).sample
        chosen = [
            row
            for label in (0, 1)
            for row in draw(np.flatnonzero(split.labels == label).tolist(), count // 2)
        ]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            writer.writerows(
                (split.texts[row], ("neg", "pos")[split.labels[row]]) for row in chosen
            )
        paths.append(path)
    return [f"data.train_path={paths[0]}", f"data.test_path={paths[1]}"]


def train(overrides: Sequence[str], folder: Path, run: Path) -> Result:
    """Train a run of train.py in the folder `run`, in a process of its own.

    Raises:
        SystemExit: the run failed; prints what it printed.
    """
    fixed = ["data=files", "baseline=tfidf", "logger=none", f"hydra.run.dir={run}"]
    _run("train.py", *fixed, *overrides, f"data.cache_dir={folder / 'cache'}")
    result: dict[str, Any] = json.loads((run / "result.json").read_text())
    baseline, timing = result["baseline"], result["timing"]
    return Result(
        examples=result["data"]["num_examples"]["train"],
        classes=len(result["data"]["class_names"]),
        accuracy=result["test/accuracy"],
        f1=result["test/f1"],
        tfidf=baseline["tfidf"]["test/accuracy"],
        tfidf_f1=baseline["tfidf"]["test/f1"],
        majority=baseline["majority"]["test/accuracy"],
        seconds=timing["wall_time_s"] + baseline["tfidf"]["wall_time_s"],
    )


def ensemble(runs: Sequence[Path], folder: Path) -> float | None:
    """Return the test accuracy of the runs together, None of a single one.

    Raises:
        SystemExit: see `train`.
    """
    if len(runs) < 2:
        return None
    tested = folder / "ensembles" / runs[0].name
    names = ",".join(map(str, runs))
    _run("eval.py", f"run=[{names}]", f"cache_dir={folder / 'cache'}", f"output_dir={tested}")
    accuracy: float = json.loads((tested / "result.json").read_text())["test/accuracy"]
    return accuracy


def _run(script: str, *overrides: str) -> None:
    command = [sys.executable, str(PROJECT / script), *overrides]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def line(name: str, results: Sequence[Result], together: float | None) -> tuple[str, ...]:
    """Return a row below HEADER: the mean over `results` and its standard deviation.

    `together` is the accuracy of their ensemble.
    """

    def mean(field: str) -> str:
        values = 100 * np.array([getattr(result, field) for result in results])
        spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
        return f"{values.mean():.1f}{spread}"

    difference = np.mean([result.accuracy - result.tfidf for result in results])
    return (
        name,
        f"{results[0].examples:,}",
        str(results[0].classes),
        *(mean(field) for field in ("accuracy", "f1")),
        "-" if together is None else f"{100 * together:.1f}",
        *(mean(field) for field in ("tfidf", "tfidf_f1", "majority")),
        f"{100 * difference:+.1f}",
        f"{np.mean([result.seconds for result in results]):.0f}",
    )


if __name__ == "__main__":
    main()
