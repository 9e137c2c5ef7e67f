"""Measure accuracy by the number of labelled reviews: `python benchmarks/learning_curve.py`.

Every method trains on the same reviews, drawn by the seed with data.train_size, splits the same
share of them off for validation, and is tested on the whole test split. With --language-model=RUN,
a network of each size starts from that run of experiment=imdb_lm, which has read no labels. The
command resumes: each measurement is in the file of --results as soon as it is made, and is not made
again.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np

from benchmarks.contenders import PROJECT
from benchmarks.machine import describe_machine
from benchmarks.picture import Curve, draw_learning_curves
from benchmarks.tables import markdown_table, report
from rnn_lab.data.cache import build_once
from rnn_lab.data.config import AutoConfig, DemoConfig, FilesConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.sources.registry import load_corpus
from rnn_lab.io.atomic import write_json
from rnn_lab.reports.run_summary import BASELINE_NAMES
from rnn_lab.training.baseline import fit_baselines
from rnn_lab.training.saved_network import read_network

SIZES = (100, 300, 1_000, 3_000, 10_000, 25_000)
RESULTS = Path(__file__).resolve().parent / "results" / "learning_curve.json"
# The options of each network; those of the baselines are none.
NETWORKS: dict[str, tuple[str, ...]] = {
    "gru": ("model=gru",),
    "gru_skipgram": ("model=gru", "data.vectors=skipgram", "data.unlabelled={unlabelled}"),
}
PRETRAINED = "gru_pretrained"
# What a network that starts from a language model has beside its structure.
FINE_TUNING = (
    "model.init_from={language_model}",
    "model.pooling=last_max_mean",
    "model.ngram_weighting=naive_bayes",
    "optimizer.layer_lr_decay=0.4",
)
BASELINES = ("tfidf", "nbsvm")
NAMES = {
    **{name: BASELINE_NAMES[name] for name in BASELINES},
    "gru": "GRU, random vectors",
    "gru_skipgram": "GRU, skip-gram vectors",
    PRETRAINED: "GRU, from a language model",
}
NOTES = """\
Test accuracy in percent, by the number of labelled reviews; mean and standard deviation over the \
seeds {seeds}, which draw the reviews and the weights (without a deviation: the first seed alone). \
A tenth of the reviews is validation. \
Reviews: {reviews}, {tested:,} for the test; {unlabelled:,} unlabelled ones for vectors and \
language models."""


@dataclass(frozen=True)
class Point:
    """One measurement."""

    method: str
    size: int  # labelled reviews, with those of validation
    seed: int
    options: tuple[str, ...]  # of train.py, beside the reviews
    accuracy: float  # of the test split
    f1: float  # macro
    seconds: float
    machine: str


class Job(NamedTuple):
    """A measurement to make."""

    method: str
    size: int
    seed: int
    options: tuple[str, ...]


@dataclass(frozen=True)
class Reviews:
    """The reviews of every method, in files."""

    name: str  # of the corpus
    fingerprint: str
    folder: Path  # of train.csv, test.csv and unlabelled.csv
    sizes: Mapping[str, int]  # of each file
    has_films: bool

    @property
    def options(self) -> dict[str, Any]:
        """The options of data=files."""
        found: dict[str, Any] = {
            f"{name}_path": str(self.folder / f"{name}.csv") for name in ("train", "test")
        }
        return found | ({"group_column": "film"} if self.has_films else {})

    @property
    def description(self) -> dict[str, Any]:
        """What the file of results says of them."""
        return {"name": self.name, "fingerprint": self.fingerprint, "sizes": dict(self.sizes)}


class Results:
    """The measurements so far, in a JSON file."""

    def __init__(
        self, path: Path, description: Mapping[str, Any], points: Iterable[Point] = ()
    ) -> None:
        self.description = description  # the reviews
        self.points = list(points)
        self._path = path

    @classmethod
    def read(cls, path: Path, reviews: Reviews | None) -> Self:
        """Read the file of earlier measurements; `reviews` are those of further ones.

        Raises:
            SystemExit: there is none and no `reviews`, or it has measurements on other reviews.
        """
        if not path.exists():
            if reviews is None:
                raise SystemExit(f"{path}: no such file; measure first, without --draw-only")
            return cls(path, reviews.description)
        content = json.loads(path.read_text(encoding="utf-8"))
        if reviews is not None and content["reviews"] != reviews.description:
            raise SystemExit(f"{path}: has measurements on other reviews; name another --results")
        points = [Point(**{**p, "options": tuple(p["options"])}) for p in content["points"]]
        return cls(path, content["reviews"], points)

    def has(self, job: Job) -> bool:
        """Return whether that measurement is made."""
        return any((p.method, p.size, p.seed, p.options) == job for p in self.points)

    def add(self, point: Point) -> None:
        """Append a measurement, in place of one with other options, and write the file."""
        key = point.method, point.size, point.seed
        others = [p for p in self.points if (p.method, p.size, p.seed) != key]
        self.points = sorted([*others, point], key=lambda p: (p.method, p.size, p.seed))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        points = [asdict(point) for point in self.points]
        write_json(self._path, {"reviews": dict(self.description), "points": points})

    def curves(self, methods: Sequence[str], seeds: Sequence[int]) -> list[Curve]:
        """Return the mean accuracy of each method by size, with the standard deviation."""
        curves = []
        for method in methods:
            of_size: dict[int, list[float]] = {}
            for point in self.points:
                if point.method == method and point.seed in seeds:
                    of_size.setdefault(point.size, []).append(point.accuracy)
            if of_size:
                sizes = sorted(of_size)
                means = [float(np.mean(of_size[size])) for size in sizes]
                spreads = [
                    float(np.std(found, ddof=1)) if len(found := of_size[size]) > 1 else 0.0
                    for size in sizes
                ]
                counts = [len(of_size[size]) for size in sizes]
                name = NAMES.get(method, method)
                curves.append(Curve(name, sizes, means, spreads, counts))
        return curves


def main() -> None:
    """Make the missing measurements, print the table and draw the picture."""
    options = parse()
    methods = [*options.methods, *options.experiments]
    methods += [PRETRAINED] * (options.draw_only or options.language_model is not None)
    if options.draw_only:
        results = Results.read(options.results, None)
    else:
        reviews = load_reviews(options.cache_dir)
        results = Results.read(options.results, reviews)
        measure_missing(options, reviews, results)
    curves = results.curves(methods, options.seeds)
    seeds = ", ".join(map(str, options.seeds))
    sizes = results.description["sizes"]
    notes = NOTES.format(
        seeds=seeds,
        reviews=results.description["name"],
        tested=sizes["test"],
        unlabelled=sizes["unlabelled"],
    )
    machines = dict.fromkeys(p.machine for p in results.points if p.method in methods)
    table = markdown_table(*table_of(curves))
    report(["; ".join(machines), notes, table], options.markdown)
    if options.picture is not None:
        corpus = str(results.description["name"]).upper()
        draw_learning_curves(curves, f"{corpus}, seeds {seeds}", options.picture)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [*BASELINES, *NETWORKS]
    default = [*BASELINES, "gru"]
    parser.add_argument("--methods", nargs="*", choices=names, default=default, metavar="METHOD")
    parser.add_argument("--language-model", type=Path, metavar="RUN", help="of experiment=imdb_lm")
    parser.add_argument(
        "--experiments", nargs="*", default=[], metavar="NAME", help="files of conf/experiment"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="REVIEWS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="SEED")
    parser.add_argument(
        "--override", nargs="*", default=[], metavar="OPTION=VALUE", help="of the networks"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the curves as a PNG")
    parser.add_argument("--draw-only", action="store_true", help="measure nothing")
    return parser.parse_args()


def load_reviews(cache_dir: Path) -> Reviews:
    """Write IMDB into files if it is on disk ($IMDB_ROOT or data/), else the demo reviews."""
    config = AutoConfig(download=False, cache_dir=str(cache_dir.resolve()))
    corpus = load_corpus(config, allow_fallback=True)
    is_demo = corpus.name == "demo"
    texts: Iterable[str] = ()
    if is_demo:
        texts = load_corpus(DemoConfig(data_seed=1, num_train=2_000, num_test=20)).train.texts
    else:
        texts = config.own_unlabelled()
    assert corpus.test is not None
    folder = cache_dir.resolve() / "learning_curve" / corpus.fingerprint[:16]
    build_once(folder, lambda partial: write_reviews(partial, corpus, texts))
    return Reviews(
        corpus.name,
        corpus.fingerprint,
        folder,
        json.loads((folder / "sizes.json").read_text()),
        has_films=corpus.train.groups is not None,
    )


def write_reviews(folder: Path, corpus: Corpus, unlabelled: Iterable[str]) -> None:
    """Write a CSV file of each split, in the corpus's order, and one of the unlabelled texts."""
    sizes = {}
    for name in ("train", "test"):
        split = corpus.splits[name]
        films = split.groups if split.groups is not None else np.zeros(len(split), np.int64)
        labels = (corpus.class_names[label] for label in split.labels)
        rows = zip(split.texts, labels, films.tolist(), strict=True)
        sizes[name] = _write(folder / f"{name}.csv", ("text", "label", "film"), rows)
    rows_of_one = ((text,) for text in unlabelled)
    sizes["unlabelled"] = _write(folder / "unlabelled.csv", ("text",), rows_of_one)
    (folder / "sizes.json").write_text(json.dumps(sizes))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    number = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number, row in enumerate(rows, start=1):  # noqa: B007
            writer.writerow(row)
    return number


def measure_missing(options: argparse.Namespace, reviews: Reviews, results: Results) -> None:
    """Make each measurement that `results` lack, the small numbers of reviews first."""
    jobs = [job for job in all_jobs(options, reviews) if not results.has(job)]
    for number, job in enumerate(jobs, start=1):
        if results.has(job):  # both baselines are measured at once
            continue
        name = f"[{number}/{len(jobs)}] {job.method}, {job.size:,} reviews, seed {job.seed}"
        print(f"{name} ...", file=sys.stderr, flush=True)
        if job.method in BASELINES:
            points = measure_baselines(job, reviews, options)
        else:
            points = [measure_network(job, reviews, options)]
        for point in points:
            results.add(point)
            print(
                f"  {point.method}: {100 * point.accuracy:.2f} %, {point.seconds:,.0f} s",
                file=sys.stderr,
                flush=True,
            )


def all_jobs(options: argparse.Namespace, reviews: Reviews) -> Iterator[Job]:
    """Yield every measurement that the command line asks for."""
    networks, methods = dict(NETWORKS), [*options.methods, *options.experiments]
    if options.language_model is not None:
        networks[PRETRAINED] = fine_tuning_options(options.language_model)
        methods.append(PRETRAINED)
    for size in sorted(options.sizes):
        if size > reviews.sizes["train"]:
            print(f"{size:,}: there are {reviews.sizes['train']:,} reviews", file=sys.stderr)
            continue
        for method in methods:
            own: tuple[str, ...] = ()
            if method not in BASELINES:
                own = (*networks.get(method, (f"experiment={method}",)), *options.override)
            for seed in options.seeds:
                yield Job(method, size, seed, own)


def fine_tuning_options(language_model: Path) -> tuple[str, ...]:
    """Return the options of a classifier that starts from a run of a language model."""
    config = read_network(language_model).model_config
    structure = (
        f"model={config.name}",
        f"model.embedding_dim={config.embedding_dim}",
        f"model.hidden_size={config.hidden_size}",
        f"model.num_layers={config.num_layers}",
        f"model.bidirectional={str(config.bidirectional).lower()}",
    )
    return (*structure, *FINE_TUNING)


def measure_baselines(job: Job, reviews: Reviews, options: argparse.Namespace) -> list[Point]:
    """Fit TF-IDF with logistic regression and NB-SVM to the training part of the reviews."""
    config = FilesConfig(
        **reviews.options,
        train_size=job.size,
        split_seed=job.seed,
        cache_dir=str(options.cache_dir.resolve()),
    )
    data = TextDataModule(config)
    data.setup()
    found = fit_baselines(data, test=True, nbsvm=True)
    machine = describe_machine(options.threads)
    return [
        Point(
            name,
            job.size,
            job.seed,
            job.options,
            accuracy=found[name]["test/accuracy"],
            f1=found[name]["test/f1"],
            seconds=found[name]["wall_time_s"],
            machine=machine,
        )
        for name in BASELINES
    ]


def measure_network(job: Job, reviews: Reviews, options: argparse.Namespace) -> Point:
    """Train a run of train.py in a process of its own; an interrupted one is resumed.

    Raises:
        SystemExit: the run failed, or read other reviews.
    """
    run = options.cache_dir.resolve() / "learning_curve" / "runs"
    run = run / f"{job.method}-{job.size}-{job.seed}"
    places = {"unlabelled": reviews.folder / "unlabelled.csv"}
    if options.language_model is not None:
        places["language_model"] = options.language_model.resolve()
    own = [option.format(**places) for option in job.options]
    is_ours = job.method in NETWORKS or job.method == PRETRAINED
    if is_ours:  # an experiment names its own data
        own += ["data=files", *(f"data.{name}={value}" for name, value in reviews.options.items())]
    command = [
        *(sys.executable, str(PROJECT / "train.py"), *own),
        *(f"seed={job.seed}", f"data.split_seed={job.seed}", f"data.train_size={job.size}"),
        *("baseline=none", "plots=false", "logger=none", f"hydra.run.dir={run}"),
        f"data.cache_dir={options.cache_dir.resolve()}",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    result = json.loads((run / "result.json").read_text())
    counts = result["data"]["num_examples"]
    source = "files" if is_ours else reviews.name
    if (result["data"]["name"], counts["train"] + counts["validation"]) != (source, job.size):
        raise SystemExit(f"{job.method}: did not train on {job.size:,} reviews of {reviews.name}")
    shutil.rmtree(run)
    return Point(
        *job, result["test/accuracy"], result["test/f1"], seconds, describe_machine(options.threads)
    )


def table_of(curves: Sequence[Curve]) -> tuple[list[str], list[list[str]]]:
    """Return the header and a row for each method."""
    sizes = sorted({size for curve in curves for size in curve.sizes})
    rows = []
    for curve in curves:
        cells = {
            size: f"{100 * mean:.1f} ± {100 * spread:.1f}" if count > 1 else f"{100 * mean:.1f}"
            for size, mean, spread, count in zip(
                curve.sizes, curve.means, curve.spreads, curve.counts, strict=True
            )
        }
        rows.append([curve.name, *(cells.get(size, "-") for size in sizes)])
    return ["method", *(f"{size:,}" for size in sizes)], rows


if __name__ == "__main__":
    main()
