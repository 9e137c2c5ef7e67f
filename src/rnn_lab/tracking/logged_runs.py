"""What the W&B runs on this machine logged, read back from their files."""

import importlib.util
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from rnn_lab.errors import ConfigError, sanitize

_PLACES = ("", "*run-*-*/", "wandb/*run-*-*/", "*/wandb/*run-*-*/")  # of a run, a sweep, or W&B's
_TIMEOUT = 120  # seconds to read one run
# W&B's program must neither log in nor report its own errors.
_OFFLINE = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}


class LoggedRun(NamedTuple):
    """One W&B run: what a panel can show of it."""

    path: Path
    job_type: str  # "" for a training run
    config: Mapping[str, Any]
    keys: frozenset[str]  # metrics, tables and images


def read_logged_runs(folder: Path, option: str) -> list[LoggedRun]:
    """Return the W&B runs in the folder of a run or of a sweep; also of uploaded ones.

    Raises:
        ConfigError: there is none, or a file cannot be read; `option` begins the message.
    """
    if not folder.is_dir():
        raise ConfigError(f"{option}: no such folder")
    files = sorted({file for place in _PLACES for file in folder.glob(f"{place}run-*.wandb")})
    if not files:
        raise ConfigError(
            f"{option}: no W&B run in this folder; train with logger=wandb, or logger.mode=offline "
            "without an account"
        )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_read, files))


def _read(file: Path) -> LoggedRun:
    """Read one run with W&B's own reader of its files."""
    command = inspect_command(file)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")} | _OFFLINE
    options: dict[str, Any] = {"env": environment, "stdin": subprocess.DEVNULL}
    try:
        read = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, **options)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{file}: not read after {_TIMEOUT} s") from None
    job_type, keys = "", set()
    config: dict[str, Any] = {}
    # A run that is still active or was killed has a last record that is incomplete, and status 0.
    for record in _records(read.stdout):
        if (run := record.get("run")) is not None:
            job_type = str(run.get("job_type", ""))
            config |= run.get("config", {}).get("update", {})
        config |= record.get("config", {}).get("update", {})
        keys |= _keys(record.get("history", {}).get("item", {}))
        keys |= _keys(record.get("summary", {}).get("update", {}))
    if read.returncode or not config:
        reason = read.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ConfigError(f"{file}: not a readable W&B run: {sanitize(reason) or 'it is empty'}")
    return LoggedRun(file, job_type, config, frozenset(keys))


def inspect_command(file: Path, *flags: str) -> list[str]:
    """Return the command line that prints what is in one of W&B's files, as JSON.

    It is the program that `wandb leet inspect` starts. That command, and wandb.util.get_core_path,
    which returns the program's path, first import wandb for a second.
    """
    spec = importlib.util.find_spec("wandb")
    assert spec is not None and spec.submodule_search_locations  # a requirement of this package
    program = Path(spec.submodule_search_locations[0]) / "bin" / "wandb-core"
    command = [str(program), "leet", "inspect", "--no-observability", "--json", *flags]
    return [*command, "--run-file", str(file.resolve()), str(file.resolve().parents[1])]


def _records(output: bytes) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        record = json.loads(line)
        if record.get("type") in ("run", "config", "history", "summary"):
            yield record


def _keys(values: Mapping[str, Any]) -> set[str]:
    """Return the names of what was logged; a table or an image has one, beside its fields."""
    return {name.removesuffix("._type") for name in values}
