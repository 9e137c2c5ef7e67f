"""What a job is known by: a fingerprint of its composed config.

The same config finds the same folder again, whatever command line composed it, so that a sweep
that was stopped goes on and one that grows runs only what is new. The fingerprint knows options,
not files: when the texts of `data.train_path` change, take another sweep.
"""

import hashlib
import json
from typing import Any

from hydra.core.utils import get_valid_filename
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_lab.errors import ConfigError
from rnn_lab.training.config import RunConfig
from rnn_lab.validation import FINGERPRINT_EXCLUDED, validate

_DIGITS = 8  # of the fingerprint in a folder's name


def job_dir(config: DictConfig) -> str:
    """Return the name of a job's folder: `gru_seed1_3f9a2b1c`.

    `config` is composed, with or without Hydra's own part.
    """
    options = _options(config)
    model = options.get("model")
    words = (model.get("name") if isinstance(model, dict) else model, f"seed{options.get('seed')}")
    name = "_".join(str(word) for word in words)
    return get_valid_filename(f"{name}_{config_fingerprint(config)[:_DIGITS]}")


def config_fingerprint(config: DictConfig) -> str:
    """Return the fingerprint of a composed config, also of an impossible one: it has a folder too.

    That job fails there, with the reason.
    """
    options = _options(config)
    try:
        return fingerprint(validate(RunConfig, options))
    except ConfigError:
        return _digest(options)


def fingerprint(config: RunConfig) -> str:
    """Return the config fingerprint, 16 hexadecimal digits; leaves out FINGERPRINT_EXCLUDED."""
    return _digest(config.model_dump(mode="json"))


def _options(config: DictConfig) -> dict[str, Any]:
    """Return what `config` says, without Hydra's part; what cannot be resolved, as it stands."""
    options: dict[str, Any] = {}
    for key in map(str, config):
        if key == "hydra":
            continue
        try:
            value = config[key]
            is_group = isinstance(value, DictConfig | ListConfig)
            options[key] = OmegaConf.to_container(value, resolve=True) if is_group else value
        except OmegaConfBaseException:
            options[key] = str(OmegaConf.to_container(config)[key])  # type: ignore[call-overload, index]
    return options


def _digest(options: dict[str, Any]) -> str:
    kept = {
        name: {
            key: value for key, value in part.items() if f"{name}.{key}" not in FINGERPRINT_EXCLUDED
        }
        if isinstance(part, dict)
        else part
        for name, part in options.items()
        if name not in FINGERPRINT_EXCLUDED
    }
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
