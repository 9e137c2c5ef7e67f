"""What an interrupted run left in its folder, and whether this run may go on from it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from src.data.datamodule import ReviewDataModule
from src.errors import CheckpointError, ConfigError
from src.options import WITHOUT_EFFECT, flat
from src.training.checkpoint_file import BEST, LAST, read_checkpoint, restore_best
from src.training.config import RunConfig
from src.training.last_checkpoint import RESUME
from src.training.metrics_csv import read_metrics
from src.training.result import git_commit, versions

_NAMED = 3  # differing options


@dataclass(frozen=True)
class HalfDone:
    """A training that goes on: from which checkpoint, and what that says of it."""

    path: Path
    state: dict[str, Any]  # see src.training.last_checkpoint
    global_step: int


def describe_making(
    config: RunConfig, data: ReviewDataModule, *, accelerator: str, devices: int, precision: str
) -> dict[str, Any]:
    """Return what decides over every figure of a run, in plain types, to be kept with it."""
    options = config.model_dump(
        mode="json", include={"seed", "model", "optimizer", "scheduler", "trainer"}
    )
    options["data"] = data.config.model_dump(mode="json")
    options["trainer"] |= {"accelerator": accelerator, "devices": devices, "precision": precision}
    made_with = {name: value for name, value in flat(options).items() if name not in WITHOUT_EFFECT}
    # Where reviews are found is without effect; this says whether they are the same.
    made_with["the reviews"] = data.corpus.fingerprint
    made_with["the vocabulary"] = data.text_encoder.fingerprint
    return {"made_with": made_with, "versions": versions() | {"commit": git_commit()}}


def find_half_done(
    folder: Path, resume: Literal["auto", "never"], making: dict[str, Any]
) -> HalfDone | None:
    """Return the half-done run in `folder` that a run of that making goes on with, if any.

    Where there is one that cannot be gone on with exactly, because a file of it is damaged or
    gone, it says so and removes its checkpoints, for the run to start anew. With `never` it only
    removes them.

    Raises:
        ConfigError: the half-done run was made with other options; names the first ones.
    """
    checkpoints = folder / "checkpoints"
    last = checkpoints / LAST
    _tidy(folder)
    if resume == "never":
        _remove([last, checkpoints / BEST])
        return None
    if not last.exists():
        return None
    try:
        checkpoint = read_checkpoint(last)
        if RESUME not in checkpoint:
            raise CheckpointError("by a version of this project that could not go on exactly")
        _check_files(folder, checkpoint)
    except CheckpointError as error:
        _say(f"{last}: {error}; the run starts anew")
        _remove([last, checkpoints / BEST])
        return None
    state = checkpoint[RESUME]
    _check_making(folder, state, making)
    half_done = HalfDone(last, state, checkpoint["global_step"])
    _say(_where(half_done))
    return half_done


def _check_files(folder: Path, checkpoint: dict[str, Any]) -> None:
    """Make sure of the files beside last.ckpt that a resumed run needs.

    Raises:
        CheckpointError: one is damaged, or not as long as it was.
    """
    for state in checkpoint["callbacks"].values():
        if state.get("best_model_path"):
            best = folder / "checkpoints" / Path(state["best_model_path"]).name
            try:
                read_checkpoint(best)
            except CheckpointError as error:
                raise CheckpointError(f"{best.name} beside it: {error}") from None
    flow = checkpoint["callbacks"].get("GradientFlow", {"rows": 0})
    for name, rows in (("metrics", checkpoint[RESUME]["rows"]), ("gradient_flow", flow["rows"])):
        if len(read_metrics(folder / f"{name}.csv")) < rows:
            raise CheckpointError(f"{name}.csv does not hold the {rows} rows that were written")


def _check_making(folder: Path, state: dict[str, Any], making: dict[str, Any]) -> None:
    there, here = state["made_with"], making["made_with"]
    differ = [
        f"{name}={there.get(name)} there, {here.get(name)} here"
        for name in dict.fromkeys([*there, *here])
        if there.get(name) != here.get(name)
    ]
    if differ:
        more = f" (and {len(differ) - _NAMED} more)" if len(differ) > _NAMED else ""
        raise ConfigError(
            f"hydra.run.dir={folder}: holds a half-done run with other options: "
            f"{'; '.join(differ[:_NAMED])}{more}. Choose another folder, or resume=never to start "
            "anew in this one"
        )
    was, now = state["versions"], making["versions"]
    changed = [f"{name} {was.get(name)} then, {now[name]} now" for name in now
               if was.get(name) != now[name]]  # fmt: skip
    if changed:
        _say(f"the last digits of figures may differ, the run was begun with: {'; '.join(changed)}")


def _where(half_done: HalfDone) -> str:
    state = half_done.state
    if state["trained"]:
        return "the training was done: goes on with the test"
    return (
        f"goes on in epoch {state['epoch']} after {state['batch']} batches "
        f"(step {half_done.global_step})"
    )


@rank_zero_only
def _tidy(folder: Path) -> None:
    """Clear away what a kill left half-written."""
    _remove([*folder.glob(".*.partial"), *(folder / "checkpoints").glob(".*.partial")])
    restore_best(folder / "checkpoints")


@rank_zero_only
def _remove(paths: Any) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
