"""Read a command line that needs nothing of Hydra, which starts slower than a text is labelled.

That is `run=model.onnx text="..."`: each option once, its value a plain path, word or number. Every
other command line is left to Hydra, which reads these to the same options.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

import yaml

from rnn_lab.paths import conf_dir

# A word that Hydra reads as the same text, whatever the option.
PLAIN = re.compile(r"(?!(?:null|true|false|inf|nan)$)[A-Za-z_/][\w./-]*", re.ASCII | re.IGNORECASE)
_PATH = re.compile(rf"(?:(?:\.\.?|~)/)?{PLAIN.pattern}", PLAIN.flags)
_POSITIVE = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
# libyaml parses a file in a tenth of the time.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def plain_options(
    config_name: str,
    arguments: Sequence[str],
    *,
    text: Collection[str] = (),
    paths: Collection[str] = (),
    numbers: Collection[str] = (),
) -> dict[str, Any] | None:
    """Return conf/`config_name`.yaml with the options on the command line, as Hydra composes them.

    Args:
        config_name: the primary config, without groups.
        arguments: those of the command.
        text: options whose values are taken literally, whatever they are.
        paths: options whose values are paths or words.
        numbers: options whose values are positive integers.

    Returns:
        the options, or None: an argument is something else.
    """
    given: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name in given:
            return None
        if name in text or (name in paths and _PATH.fullmatch(value)):
            given[name] = value
        elif name in numbers and _POSITIVE.fullmatch(value):
            given[name] = int(value)
        else:
            return None
    config = load_yaml((conf_dir() / f"{config_name}.yaml").read_text(encoding="utf-8"))
    options = {name: value for name, value in config.items() if name not in ("defaults", "hydra")}
    return options | given


def load_yaml(text: str) -> Any:
    """Return the content of a YAML file.

    Raises:
        yaml.YAMLError: it is not valid.
    """
    return yaml.load(text, _YamlLoader)
