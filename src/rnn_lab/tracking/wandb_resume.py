"""A resumed run in W&B: still one run, with complete curves.

An offline W&B run cannot be resumed: of two folders with one id the later replaces the earlier when
they are uploaded. So the later run logs all that the earlier one had.
"""

import shutil
from pathlib import Path
from typing import Any


def earlier_runs(folder: Path) -> list[Path]:
    """Return the folders of the W&B runs of an interrupted run, the latest last."""
    runs = (folder / "wandb").glob("*run-*-*")
    return sorted((run for run in runs if run.is_dir()), key=_started)


def run_id(run: Path) -> str:
    """Return the id of the W&B run in the folder offline-run-<time>-<id> or run-<time>-<id>."""
    return run.name.partition("run-")[2].partition("-")[2]


def is_offline(run: Path) -> bool:
    """Return whether the W&B run in that folder was offline."""
    return run.name.startswith("offline-")


def replay_metrics(run: Any, rows: list[dict[str, str]]) -> None:
    """Log rows of metrics.csv to the open W&B `run`, as Lightning's WandbLogger did."""
    for row in rows:
        metrics = {name: float(cell) for name, cell in row.items() if name != "step"}
        if "epoch" in metrics:
            metrics["epoch"] = int(metrics["epoch"])
        run.log(metrics | {"trainer/global_step": int(row["step"])})


def delete_offline_runs(earlier: list[Path]) -> None:
    """Remove the folders of offline runs whose curves have been logged again."""
    for run in earlier:
        if is_offline(run):
            shutil.rmtree(run, ignore_errors=True)


def _started(run: Path) -> str:
    return run.name.partition("run-")[2]
