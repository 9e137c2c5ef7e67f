"""What a run says of its reviews before it trains on them."""

import logging

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.data.datamodule import TextDataModule

log = logging.getLogger(__name__)

WORTH_A_WARNING = 0.01  # share of the validation or test reviews that training shows


@rank_zero_only
def warn_demo_fallback() -> None:
    """Say, so that nobody can miss it, that what follows is not IMDB."""
    from rich.console import Console
    from rich.panel import Panel

    Console().print(
        Panel(
            "IMDB is neither on this disk nor to be fetched, so this run trains on the synthetic "
            "demo reviews.\nIts figures say nothing about IMDB. For the real reviews, put "
            "aclImdb_v1.tar.gz into data/ or set IMDB_ROOT,\nand take data=imdb to make sure.",
            title="DEMO REVIEWS, NOT IMDB",
            border_style="bold yellow",
        )
    )


@rank_zero_only
def log_duplicates(data: TextDataModule) -> None:
    """Say in one line how many reviews stand more than once: in the log, or to all if too many."""
    same, words = (data.duplicates[kind] for kind in ("exact", "by_token"))
    sizes = {name: len(split) for name, split in data.splits.items()}
    found = [
        f"{words[where]['examples']:,} {meaning} ({same[where]['examples']:,} to the letter)"
        for where, meaning in (
            ("train", "within training"),
            ("validation_in_train", f"of {sizes.get('validation', 0):,} validation reviews"),
            ("test_in_train", f"of {sizes.get('test', 0):,} test reviews"),
        )
        if where in words
    ]
    label_conflicts = sum(counts["label_conflicts"] for counts in words.values())
    leaks = any(
        words[f"{name}_in_train"]["examples"] >= WORTH_A_WARNING * sizes[name]
        for name in ("validation", "test")
        if words.get(f"{name}_in_train", {"examples": 0})["examples"]
    )
    log.log(
        logging.WARNING if leaks else logging.INFO,
        "Reviews that stand in training too, word for word: %s; %s under another label. "
        "result.json has every count; data.drop_duplicates=true leaves them out of training",
        ", ".join(found),
        f"{label_conflicts:,}",
    )
