"""What a user should know of the data of a run or a test: how files were read, rows, classes."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.panel import Panel

from rnn_lab.data.class_balance import count_classes
from rnn_lab.data.corpus import SPLITS, Corpus
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.readers.labels import find_joined_labels, fold_case
from rnn_lab.data.statistics import text_warnings
from rnn_lab.errors import listed, sanitize
from rnn_lab.io.atomic import atomic_write
from rnn_lab.overrides import show_option
from rnn_lab.training.spec import RunSpec

log = logging.getLogger(__name__)

SKIPPED_ROWS = "skipped_rows.txt"
FEW_ROWS = 5  # of a class: fewer are a warning
FEW_TEXTS = 20  # of validation or test: likewise
WARNING_SHARE = 0.01  # of the validation or test texts that are training texts too
_NAMED_CLASSES = 10  # in a warning
_LISTS_OF_ONE = (
    "each list has one label, so each text has one class (data.label_separator=list: any number)"
)


def report_data(spec: RunSpec, data: TextDataModule) -> None:
    """Print and log what a user should know of the texts of a run."""
    print_source_info(data.corpus)
    if not spec.config.trainer.fast_dev_run:
        write_skipped_rows(data.corpus, spec.output_dir)
    print_data_summary(data)
    print_unlabelled(data)
    print_pseudo_labels(data)
    report_groups(data)
    warn_rare_classes(data)
    warn_unlikely_classes(data)
    log_duplicates(data)
    print_pretraining_texts(data)


@rank_zero_only
def warn_demo_fallback() -> None:
    """Print a box that nobody can miss: this run does not train on IMDB."""
    text = (
        "IMDB is not on disk and cannot be downloaded, so this run uses synthetic demo reviews."
        "\nIts metrics say nothing about IMDB. For the real reviews, put aclImdb_v1.tar.gz "
        "into data/ or set IMDB_ROOT,\nand use data=imdb, which never falls back."
    )
    Console().print(Panel(text, title="DEMO REVIEWS, NOT IMDB", border_style="bold yellow"))


@rank_zero_only
def print_source_info(corpus: Corpus) -> None:
    """Print how each file was read, as the options that override what was inferred."""
    described: dict[str, dict[str, None]] = {}  # a path once, though several splits name it
    for info in corpus.source_info.values():
        described.setdefault(_as_options(info), {})[str(info["path"])] = None
    for options, paths in described.items():
        print(sanitize(f"Read {' and '.join(paths)} {options}", longest=1000), flush=True)


def _as_options(info: Mapping[str, Any]) -> str:
    """Return "with data.format=csv data.encoding=utf-8 ..."; some formats are no option."""
    options = {name: value for name, value in info.items() if name != "path" and value is not None}
    if options.get("header") is False:
        options = {name: _positions(name, value) for name, value in options.items()}
    lists = options.pop("lists_of_one", False)
    prefix = "with"
    if " " in options.get("format", ""):
        prefix = f"as {options.pop('format')} with"
    shown = " ".join([prefix, *(show_option(f"data.{name}", v) for name, v in options.items())])
    return f"{shown}; {_LISTS_OF_ONE}" if lists else shown


def _positions(name: str, value: Any) -> Any:
    """Return the columns of a file without a header as one types them: 1 for the name "1"."""
    if isinstance(value, list):
        return [_positions(name, item) for item in value]
    is_position = name.endswith("_column") and value.isdecimal()
    return int(value) if is_position else value


@rank_zero_only
def write_skipped_rows(corpus: Corpus, folder: Path) -> None:
    """List the rows that were skipped in a file in `folder`, and print their number."""
    path = folder / SKIPPED_ROWS
    if not corpus.skipped:
        path.unlink(missing_ok=True)  # of a run that this one replaces
        return
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.writelines(f"{row}\n" for row in corpus.skipped)
    rows = sum(map(len, corpus.splits.values())) + len(corpus.skipped)
    print(
        f"{len(corpus.skipped):,} of {rows:,} rows cannot be used and were skipped; "
        f"{path} lists them",
        flush=True,
    )


@rank_zero_only
def print_data_summary(data: TextDataModule) -> None:
    """Print splits, classes and lengths of a user's own texts; warn where another tokenizer helps.

    The texts of IMDB and the synthetic ones are always the same, and not summarized.
    """
    statistics = data.text_statistics
    for line in text_warnings(statistics, data.config.tokenizer):
        log.warning(line)
    if not data.config.fits_size or "train" not in statistics:
        return
    sizes = ", ".join(
        f"{name} {statistics[name]['examples']:,}" for name in SPLITS if name in statistics
    )
    labels = data.splits["train"].labels
    shares = count_classes(labels, data.num_classes) / len(labels)
    listed = _listed_shares(data.class_names, shares)
    kind = "classes"
    if labels.ndim == 2:
        kind, listed = "labels", f"{listed}; none {(~labels.any(axis=1)).mean():.1%}"
    print(f"Texts: {sizes}; {data.num_classes} {kind}: {listed}")
    train = statistics["train"]
    held_out = statistics.get("validation", train)
    print(
        f"Tokens of a training text: median {train['median_length']:,.10g}, longest "
        f"{train['max_length']:,}; data.max_length={data.config.max_length} cuts "
        f"{train['truncated']:.1%} of them; {held_out['unknown']:.1%} of the validation tokens "
        "are unknown",
        flush=True,
    )
    few = {name: statistics[name]["examples"] for name in SPLITS[1:] if name in statistics}
    steps = [f"one of {n} {name} texts is {1 / n:.0%}" for name, n in few.items() if n < FEW_TEXTS]
    if steps:
        advice = "; a sweep over data.folds=5 data.fold=0,1,2,3,4 tests on every text once"
        # Folds cut the training file: a test file of the user's own excludes them.
        may_fold = all(getattr(data.config, name, "") is None for name in ("folds", "test_path"))
        log.warning(
            "Few texts: %s of the accuracy%s", " and ".join(steps), advice if may_fold else ""
        )


def describe_left_out(count: int) -> str:
    """Say how many unlabelled texts are not used, since they validate or test the run."""
    return f"{count:,} more are also in validation or test and were left out"


@rank_zero_only
def print_pretraining_texts(data: TextDataModule) -> None:
    """Print how many texts a language model is trained on."""
    if data.use_labels:
        return
    about = data.pretraining_texts.about
    unlabelled = ""
    if "unlabelled" in about:
        omitted = describe_left_out(about["held_out"])
        unlabelled = f" and {about['unlabelled']:,} unlabelled ones ({omitted})"
    print(f"Language model of {about['training']:,} training texts{unlabelled}", flush=True)


@rank_zero_only
def print_unlabelled(data: TextDataModule) -> None:
    """Print how many unlabelled texts are in the training batches, and how many were left out."""
    if (unlabelled := data.unlabelled) is not None:
        print(
            f"Unlabelled texts: {len(unlabelled.texts):,} in training; "
            f"{describe_left_out(unlabelled.num_held_out)}",
            flush=True,
        )


@rank_zero_only
def print_pseudo_labels(data: TextDataModule) -> None:
    """Print how many unlabelled texts the teacher of a run has labelled, and as what."""
    if (found := data.pseudo_labelled) is None:
        return
    counts = count_classes(found.split.labels, data.num_classes)
    shares = _listed_shares(data.class_names, counts / len(found.rows))
    print(
        f"Pseudo-labels: {len(found.rows):,} of {len(found.unlabelled.ids):,} unlabelled texts, "
        f"with a probability of {data.config.teacher_threshold:g} or more: {shares}; "
        f"{found.num_labelled:,} are also labelled training texts and were left out; "
        f"{describe_left_out(found.unlabelled.num_held_out)}",
        flush=True,
    )


@rank_zero_only
def report_groups(data: TextDataModule) -> None:
    """Print how many groups each split has, and warn about those that are in two splits."""
    column = getattr(data.config, "group_column", None)
    if column is None:
        return
    found: dict[str, np.ndarray] = {}  # without rows that have no group
    for name in data.splits:
        groups = data.examples_of(name).groups
        assert groups is not None  # data.group_column has been read
        found[name] = np.unique(groups[groups >= 0])
    counts = ", ".join(f"{len(found[name]):,} in {name}" for name in SPLITS if name in found)
    print(sanitize(f"Groups by data.group_column={column}: {counts}"), flush=True)
    for name, others in (("validation", ("train",)), ("test", ("train", "validation"))):
        for other in others:
            shared = np.intersect1d(found.get(name, ()), found.get(other, ()))
            if len(shared):
                log.warning(
                    "data.group_column=%s: %s of %s groups in %s are also in %s",
                    *(column, f"{len(shared):,}", f"{len(found[name]):,}", name, other),
                )


@rank_zero_only
def warn_rare_classes(data: TextDataModule) -> None:
    """Warn about classes with too few texts to learn, and about those that a split lacks."""
    counts = {
        name: count_classes(data.splits[name].labels, data.num_classes)
        for name in SPLITS
        if name in data.splits
    }
    if "train" not in counts:
        return
    total = np.sum(list(counts.values()), axis=0)  # int64 [classes]
    single, untrained, few, absent = [], [], [], []
    for row, name in enumerate(data.class_names):
        each = ", ".join(f"{split} {count[row]}" for split, count in counts.items())
        if total[row] == 1 and counts["train"][row] == 1:
            single.append(repr(name))
        elif not counts["train"][row]:
            untrained.append(f"{name!r} ({each})")
        elif counts["train"][row] < FEW_ROWS:
            few.append(f"{name!r} ({each})")
        elif not all(count[row] for count in counts.values()):
            absent.append(f"{name!r} ({each})")
    if single:
        log.warning(
            "Classes with one text, which is in training and can be neither validated nor tested: "
            "%s",
            _listed(single),
        )
    if untrained:
        log.warning("Classes without a training text: %s", _listed(untrained))
    if few:
        log.warning("Classes with fewer than %d training texts: %s", FEW_ROWS, _listed(few))
    if absent:
        log.warning("Classes without texts in validation or test: %s", _listed(absent))


@rank_zero_only
def warn_unlikely_classes(data: TextDataModule) -> None:
    """Warn about classes that seem to be several labels in a cell, or one label spelled twice."""
    names = data.class_names
    may_split = getattr(data.config, "label_separator", "") is None and not data.is_multilabel
    if may_split and (joined := find_joined_labels(names)):
        log.warning(
            "%s; if a text may have any number of labels: data.label_separator=%s",
            *(joined.evidence, joined.separator),
        )
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(fold_case(name), []).append(repr(name))
    if pairs := [" and ".join(same) for same in alike.values() if len(same) > 1]:
        log.warning("Classes that differ only in case or spaces: %s", _listed(pairs))


@rank_zero_only
def log_duplicates(data: TextDataModule) -> None:
    """Log how many examples are duplicates; as a warning where splits share too many."""
    exact, by_token = data.duplicates["exact"], data.duplicates["by_token"]
    found, conflicts, is_leaking = [], 0, False
    for name in ("train", "validation", "test"):
        where = name if name == "train" else f"{name}_in_train"
        if where not in by_token:
            continue
        size, shared = len(data.splits.get(name, ())), by_token[where]["examples"]
        of = "within training" if name == "train" else f"of {size:,} {name} examples"
        found.append(f"{shared:,} {of} ({exact[where]['examples']:,} exactly)")
        conflicts += by_token[where]["label_conflicts"]
        is_leaking |= name != "train" and shared > 0 and shared >= WARNING_SHARE * size
    log.log(
        logging.WARNING if is_leaking else logging.INFO,
        "Duplicates of training examples, word by word: %s; %s have another label. "
        "result.json has all counts; data.drop_duplicates=true removes from training those of "
        "validation and test",
        ", ".join(found),
        f"{conflicts:,}",
    )


@rank_zero_only
def warn_never_predicted(
    labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> None:
    """Warn about classes that the test split has and the network never predicts there.

    `labels` and `predicted` are as in `class_metrics`.
    """
    if labels.ndim == 2:
        missed = np.flatnonzero(labels.any(axis=0) & ~predicted.any(axis=0)).tolist()
    else:
        missed = np.setdiff1d(labels, predicted).tolist()
    if missed:
        names = _listed([repr(class_names[row]) for row in missed])
        log.warning("Classes that are never predicted on the test split: %s", names)


def _listed_shares(names: Sequence[str], shares: np.ndarray) -> str:
    """Return "positive 60.0%, negative 40.0%", the largest share first."""
    order = np.argsort(-shares, kind="stable")
    return _listed([f"{names[row]} {shares[row]:.1%}" for row in order])


def _listed(names: list[str]) -> str:
    return sanitize(listed(names, _NAMED_CLASSES), longest=1000)
