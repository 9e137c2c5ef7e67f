"""Refuse configs that contain a secret, so that run outputs never do.

Hydra writes the whole config and the command line into the run folder, W&B logs both, and a sweep
passes them to its jobs. So a key or password is refused before any file is written. A reference to
the environment, `${oc.env:NAME}`, is allowed, and is written as that reference.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from rnn_lab.errors import exit_with

_WORDS = r"(?:(?:api|access|private)_?key|secret|passw(?:or)?d|credentials?|(?<![a-z])token)"
_NAME = re.compile(rf"{_WORDS}$|(?:^|_)pwd$", re.IGNORECASE)
# The start of a value that is neither a reference nor empty.
_PLAIN = r"(?:['\"]?(?!\$|null\b)[^\s'\"&])"
_ASSIGNED = re.compile(rf"([\w.-]*?{_WORDS})\s*=\s*{_PLAIN}", re.IGNORECASE)
_IN_URL = re.compile(r"\b(?:https?://[^/\s@'\"]+@|[\w.+-]+://[^/\s:@'\"]*:[^/\s@'\"]+@)")


class RejectSecrets(Callback):
    """Hydra callback of conf/train.yaml and conf/eval.yaml, called before anything is written."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Exit with one line, which names the option, if `config` contains a secret.

        The overrides of a sweep are those of all its jobs. Hydra turns any error of a callback but
        SystemExit into a warning.
        """
        if name := find_secret(config):
            exit_with(
                f"{name}: contains a secret, and options are written into the run folder "
                "and logged; set an environment variable and use '${oc.env:<its name>}' (for W&B: "
                "`wandb login`, or WANDB_API_KEY in the environment)"
            )

    on_multirun_start = on_run_start


def find_secret(config: DictConfig) -> str | None:
    """Return the name of the first option that contains a secret; None if no option does.

    A secret is the value of a name such as `api_key`, `WANDB_API_KEY` or `db_password`, or a URL
    with a password.
    """
    for name, value in _leaves(OmegaConf.to_container(config, resolve=False)):
        if value in (None, "") or isinstance(value, bool) or str(value).startswith("${"):
            continue
        if isinstance(value, str):
            is_override = name.startswith("hydra.overrides.")  # a list of option=value
            option = value.partition("=")[0] if is_override else name
            if assigned := _ASSIGNED.search(value):
                return option if option.endswith(assigned[1]) else f"{option}: {assigned[1]}"
            if any("${" not in url[0] for url in _IN_URL.finditer(value)):
                return option
        if _NAME.search(name.rpartition(".")[2]):
            return name
    return None


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
    """Return the overrides of a job from Hydra's own config, with references left unresolved.

    Reading them one by one would put the values of environment variables in their place.
    """
    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return [str(override) for override in overrides]


def strip_credentials(url: str) -> str:
    """Return a URL without the user, password or token before its host."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL: its parts are unknown
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def git_remote() -> str | None:
    """Return the URL of the repository's remote without credentials, for W&B.

    W&B itself removes a password and keeps the user, which is often a token. None: the URL has no
    credentials, and W&B can read it by itself.
    """
    name = os.environ.get("WANDB_GIT_REMOTE", "origin")
    command = ["git", "config", "--get", f"remote.{name}.url"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    url = os.environ.get("WANDB_GIT_REMOTE_URL", done.stdout.strip())
    return strip_credentials(url) if "://" in url and "@" in url else None
