"""The banner of a run that trains on made-up reviews because IMDB was not at hand."""

from lightning.pytorch.utilities.rank_zero import rank_zero_only


@rank_zero_only
def announce_demo() -> None:
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
