"""Secrets stay out of what a run leaves: a config that spells one out is refused.

Hydra writes the whole config and the command line into the run's folder, W&B logs both, and a sweep
hands them to its jobs. So a key or password is refused before any file is written; one that stands
in the environment, as `${oc.env:NAME}`, is written as that reference.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

_WORDS = r"(?:(?:api|access|private)_?key|secret|passw(?:or)?d|credentials?|(?<![a-z])token)"
_NAME = re.compile(rf"{_WORDS}$|(?:^|_)pwd$", re.IGNORECASE)
_PLAIN = r"(?:['\"]?(?!\$|null\b)[^\s'\"&])"  # begins a value that is no reference, and not empty
_ASSIGNED = re.compile(rf"([\w.-]*?{_WORDS})\s*=\s*{_PLAIN}", re.IGNORECASE)
_IN_URL = re.compile(r"\b(?:https?://[^/\s@'\"]+@|[\w.+-]+://[^/\s:@'\"]*:[^/\s@'\"]+@)")


class RejectSecrets(Callback):
    """What conf/train.yaml and conf/eval.yaml have Hydra call before it writes anything."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Look at a run's config."""
        reject_secrets(config)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Look at a sweep's config; its overrides are those of all jobs."""
        reject_secrets(config)


def reject_secrets(config: DictConfig) -> None:
    """End the program with one line, which names the option, where `config` spells out a secret.

    Raises:
        SystemExit: with status 1. Hydra makes a warning of any other error here.
    """
    if name := find_secret(config):
        print(
            f"error: {name}: holds a secret, and options are written into the run's folder and "
            "logged; set an environment variable and give '${oc.env:<its name>}' (for W&B: "
            "`wandb login`, or WANDB_API_KEY in the environment)",
            file=sys.stderr,
        )
        sys.exit(1)


def find_secret(config: DictConfig) -> str | None:
    """Return the name of an option with a secret in it; None where there is none.

    That is: a name such as `api_key`, `WANDB_API_KEY` or `db_password` with a value, and a URL with
    a password.
    """
    plain = OmegaConf.to_container(config, resolve=False)
    for name, value in _leaves(plain):
        if value in (None, "") or isinstance(value, bool) or str(value).startswith("${"):
            continue
        if isinstance(value, str):
            given = name.startswith("hydra.overrides.")  # a list of option=value
            option = value.partition("=")[0] if given else name
            if assigned := _ASSIGNED.search(value):
                return option if option.endswith(assigned[1]) else f"{option}: {assigned[1]}"
            if _holds_password(value):
                return option
        if _NAME.search(name.rpartition(".")[2]):
            return name
    return None


def _holds_password(text: str) -> bool:
    return any("${" not in found[0] for found in _IN_URL.finditer(text))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name)
    else:
        yield name, value


def raw_overrides(hydra: Any) -> list[str]:
    """Return the overrides of a job, of Hydra's own config, with references unresolved in them.

    To read them one by one would put what stands in the environment into their place.
    """
    given = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(given, list)
    return [str(override) for override in given]


def strip_credentials(url: str) -> str:
    """Return a URL without the user, password or token before its host."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL: nothing is known of its parts
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def git_remote() -> str | None:
    """Return the URL of the repository's remote as W&B may have it.

    W&B itself leaves out a password and leaves in a user, which is where a token often stands. None
    where there is nothing to leave out, and W&B is left to look by itself.
    """
    name = os.environ.get("WANDB_GIT_REMOTE", "origin")
    command = ["git", "config", "--get", f"remote.{name}.url"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    url = os.environ.get("WANDB_GIT_REMOTE_URL", done.stdout.strip())
    return strip_credentials(url) if "://" in url and "@" in url else None
