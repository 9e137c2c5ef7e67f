"""Folders named by the time: each belongs to the one command that creates it."""

from itertools import chain, count
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rnn_lab.io.atomic import translating_os_errors
from rnn_lab.overrides import set_folder
from rnn_lab.process import is_worker


def claim_timed_dir(config: DictConfig, option: str) -> list[Path]:
    """Create the folder that `option` ("hydra.run.dir") names by the second, for this command only.

    If another command, started in the same second, has created it, `<folder>_2` is created instead,
    and `config` names that one. A folder that is named in any other way is left alone: it may be
    one to resume.

    Returns:
        The folders that were created, the deepest first.

    Raises:
        WriteError: the folder cannot be created.
    """
    first = Path(str(OmegaConf.select(config, option)))
    times = OmegaConf.get_cache(config).get("now", {})
    seconds = (time for (pattern, *_), time in times.items() if "%S" in pattern)
    if is_worker() or not any(str(time) in str(first) for time in seconds):
        return []
    absent = [parent for parent in first.parents if not parent.exists()]
    others = (first.with_name(f"{first.name}_{number}") for number in count(2))
    with translating_os_errors(first):
        folder = next(folder for folder in chain([first], others) if _created(folder))
    if folder != first:
        set_folder(config, option, str(folder))
    return [folder, *absent]


def _created(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True
