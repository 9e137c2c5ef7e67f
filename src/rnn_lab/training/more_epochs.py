"""More epochs for a finished run: what may change, and whether the bits stay those of one run."""

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from rnn_lab.errors import OutputDirConflictError
from rnn_lab.models.config import SchedulerConfig
from rnn_lab.runs.jobs import read_job_file
from rnn_lab.runs.result_json import recorded_options
from rnn_lab.runs.run_folder import CHECKPOINT_DIR, LAST
from rnn_lab.training.config import RunConfig
from rnn_lab.training.spec import config_fingerprint
from rnn_lab.validation import AUTO, flatten

_MAX_EPOCHS, _PATIENCE, _LR = "trainer.max_epochs", "trainer.patience", "optimizer.lr"


def may_change(name: str) -> bool:
    """Return whether an option of a finished run may have another value in further epochs."""
    return name in (_MAX_EPOCHS, _PATIENCE, _LR) or name.startswith("scheduler.")


def asks_for_more_epochs(
    trained: Mapping[str, Any], wanted: Mapping[str, Any], epochs: int
) -> bool:
    """Return whether options ask for more than the `epochs` that a finished run has trained.

    Both are flat, {"trainer.max_epochs": 3, ...}. A larger trainer.patience does so where the run
    was stopped early.
    """
    most = wanted.get(_MAX_EPOCHS)
    ends = (_MAX_EPOCHS, _PATIENCE)
    changes = any(wanted.get(name) not in (trained.get(name), AUTO) for name in ends)
    return isinstance(most, int) and (most == -1 or most > epochs) and changes


def is_exact(changed: Iterable[str], trained: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether further epochs have, on CPU, the bits of a run that had them from the start.

    `changed` are the options whose values differ. The learning rate must not depend on the end, and
    such a run must not have been stopped early by a smaller trainer.patience.
    """
    before, now = trained.get(_PATIENCE), wanted.get(_PATIENCE)
    is_patient = now in (before, None) or (before is not None and now > before)
    return {*changed} <= {_MAX_EPOCHS, _PATIENCE} and is_patient and not _needs_end(wanted)


class EarlyEnd(NamedTuple):
    """That a run ended before its last epoch, and why."""

    description: str  # "ended after 3 of 10 epochs because of trainer.patience=3"
    was_patience: bool  # or may have been, where several options could end it


def find_early_end(trained: Mapping[str, Any], epochs: int) -> EarlyEnd | None:
    """Return why a run with the options `trained`, flat, ended early; None if it did not."""
    planned, patience = trained.get(_MAX_EPOCHS), trained.get(_PATIENCE)
    if not isinstance(planned, int) or epochs >= planned > 0:
        return None
    ends = {name: trained.get(name) for name in ("trainer.max_steps", "trainer.max_time")}
    # The first validation is the best so far; so many after it have to be no better.
    is_once_an_epoch = trained.get("trainer.val_check_interval", 1.0) == 1.0
    was_patience = patience is not None and (epochs > patience or not is_once_an_epoch)
    if was_patience:
        ends = {_PATIENCE: patience} | ends
    reasons = [f"{name}={value}" for name, value in ends.items() if value not in (None, -1)]
    because = " or ".join(reasons) or "a callback"
    epochs_of = f"{epochs}" if planned == -1 else f"{epochs} of {planned}"
    description = f"ended after {epochs_of} epochs because of {because}"
    return EarlyEnd(description, was_patience)


def check_early_stop(
    where: str, trained: Mapping[str, Any], wanted: Mapping[str, Any], epochs: int
) -> None:
    """Raise an OutputDirConflictError if it was not trainer.max_epochs that ended the run."""
    if (ended := find_early_end(trained, epochs)) is None:
        return
    if ended.was_patience:
        patience, more = trained[_PATIENCE], wanted.get(_PATIENCE)
        if more is None or (isinstance(more, int) and more > patience):
            return
        advice = "; more epochs need a larger one, or null"
    else:
        advice = f", so that a larger {_MAX_EPOCHS} does not continue it"
    raise OutputDirConflictError(f"{where}: contains a run that {ended.description}{advice}")


def check_schedule(where: str, trained: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise an OutputDirConflictError if the schedule ended with the run, and is not restated."""
    if _needs_end(wanted) and _schedule(trained) == _schedule(wanted):
        name = wanted.get("scheduler.name")
        fix = "scheduler.warmup_ratio=0" if name == "constant" else "scheduler=constant"
        raise OutputDirConflictError(
            f"{where}: contains a finished run, with which scheduler={name} has come to its end; "
            f"give more epochs another schedule ({fix}; {_LR} may change too), or choose another "
            "folder"
        )


def check_finished(
    where: str, folder: Path, config: RunConfig, *, remedy: str = "choose another folder"
) -> None:
    """Raise an OutputDirConflictError unless `config` asks for more epochs of the run in `folder`.

    For the message, `where` is the option that names the folder, and `remedy` what to do. What the
    texts decide is not known here: last.ckpt has it (`find_resume_point`).
    """
    result = read_job_file(folder, "result")
    trained, epochs = recorded_options(result), result.get("epochs")
    wanted = flatten(config.model_dump(mode="json"))
    error = f"{where}: contains a finished run; {remedy}"
    if not isinstance(epochs, int) or not asks_for_more_epochs(trained, wanted, epochs):
        ended = find_early_end(trained, epochs) if isinstance(epochs, int) else None
        if ended is None or ended.was_patience:
            larger = _MAX_EPOCHS if ended is None else _PATIENCE
            error += f", or a larger {larger} to train it further"
        raise OutputDirConflictError(error if ended is None else f"{error}. It {ended.description}")
    if not _has_equal_others(config, result, trained):
        raise OutputDirConflictError(
            f"{error}. It was trained with other options (`overrides` in its result.json), so that "
            f"{_MAX_EPOCHS}={config.trainer.max_epochs} does not continue it"
        )
    check_early_stop(where, trained, wanted, epochs)
    check_schedule(where, trained, wanted)
    last = folder / CHECKPOINT_DIR / LAST
    if config.resume == "auto" and not last.exists():
        raise OutputDirConflictError(
            f"{where}: contains a finished run without {last.relative_to(folder)}, which more "
            f"epochs continue; {remedy}, or resume=never, which starts over"
        )


def _has_equal_others(
    config: RunConfig, result: Mapping[str, Any], trained: Mapping[str, Any]
) -> bool:
    """Return whether `config` has the options of a finished run, but for those that may change."""
    try:
        scheduler = SchedulerConfig.model_validate(result.get("scheduler"))
    except ValidationError:
        return False
    optimizer = config.optimizer.model_copy(update={"lr": trained.get(_LR)})
    # The fingerprint is that of the options as they were given, perhaps `auto`.
    for most, patience in product((trained.get(_MAX_EPOCHS), AUTO), (trained.get(_PATIENCE), AUTO)):
        trainer = config.trainer.model_copy(update={"max_epochs": most, "patience": patience})
        groups = {"scheduler": scheduler, "optimizer": optimizer, "trainer": trainer}
        before = config.model_copy(update=groups)
        if config_fingerprint(before) == result.get("config_fingerprint"):
            return True
    return False


def _needs_end(options: Mapping[str, Any]) -> bool:
    return options.get("scheduler.name") != "constant" or bool(
        options.get("scheduler.warmup_ratio")
    )


def _schedule(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name.startswith("scheduler.")}
