"""Warnings about the data of a run, before it trains."""

import logging

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.data.datamodule import TextDataModule

log = logging.getLogger(__name__)

WARNING_SHARE = 0.01  # of the validation or test examples that are training examples too


@rank_zero_only
def warn_demo_fallback() -> None:
    """Print a box that nobody can miss: this run does not train on IMDB."""
    from rich.console import Console
    from rich.panel import Panel

    Console().print(
        Panel(
            "IMDB is not on disk and cannot be downloaded, so this run uses synthetic demo reviews."
            "\nIts metrics say nothing about IMDB. For the real reviews, put aclImdb_v1.tar.gz "
            "into data/ or set IMDB_ROOT,\nand use data=imdb, which never falls back.",
            title="DEMO REVIEWS, NOT IMDB",
            border_style="bold yellow",
        )
    )


@rank_zero_only
def log_duplicates(data: TextDataModule) -> None:
    """Log how many examples are duplicates; as a warning where splits share too many."""
    same, words = (data.duplicates[kind] for kind in ("exact", "by_token"))
    sizes = {name: len(split) for name, split in data.splits.items()}
    found = [
        f"{words[where]['examples']:,} {meaning} ({same[where]['examples']:,} exactly)"
        for where, meaning in (
            ("train", "within training"),
            ("validation_in_train", f"of {sizes.get('validation', 0):,} validation examples"),
            ("test_in_train", f"of {sizes.get('test', 0):,} test examples"),
        )
        if where in words
    ]
    label_conflicts = sum(counts["label_conflicts"] for counts in words.values())
    leaks = any(
        words[f"{name}_in_train"]["examples"] >= WARNING_SHARE * sizes[name]
        for name in ("validation", "test")
        if words.get(f"{name}_in_train", {"examples": 0})["examples"]
    )
    log.log(
        logging.WARNING if leaks else logging.INFO,
        "Duplicates of training examples, word by word: %s; %s have another label. "
        "result.json has all counts; data.drop_duplicates=true removes them from training",
        ", ".join(found),
        f"{label_conflicts:,}",
    )
