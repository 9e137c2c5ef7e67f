"""Checked options: what a config may hold, and one clear line for what it may not."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rnn_lab.errors import ConfigError

# Names, places and speed: what no figure of a run depends on. All other options of train.py count,
# a new one too, so that no result is ever taken for that of another config.
FINGERPRINT_EXCLUDED = frozenset(
    {
        *(
            "name",
            "tags",
            "experiment",
            "logger",
            "sweep",
            "max_retries",
            "resume",
            "trial",
            "reproduce",
        ),
        *("data.cache_dir", "data.num_workers", "data.root", "data.url", "data.download"),
        *("trainer.enable_progress_bar", "trainer.checkpoint_every_n_steps"),
        "trainer.checkpoint_every_n_minutes",
        # Where they take effect, the run would have no figure without: result.json says so.
        *("trainer.on_nonfinite", "trainer.max_rollbacks"),
    }
)


class StrictConfig(BaseModel):
    """A group of options: no others than those named, none changed after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Schema = TypeVar("Schema", bound=BaseModel)


def validate(schema: type[Schema], options: Mapping[str, Any]) -> Schema:
    """Return `options` as a `schema`.

    Raises:
        ConfigError: an option is unknown or impossible; one line for each.
    """
    try:
        return schema.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError("\n".join(_line(details) for details in error.errors())) from None


def flatten(options: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return groups of options under their dotted names: {"model.hidden_size": 128, ...}."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        inner = isinstance(value, Mapping)
        found |= flatten(value, f"{before}{name}.") if inner else {f"{before}{name}": value}
    return found


def unknown_choice_message(what: str, name: str, choices: list[str]) -> str:
    """Say that `name` is not among `choices`, and which of them was probably meant."""
    close = get_close_matches(name.rpartition(".")[2], choices, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"{what}.{meant} Choose from: {', '.join(sorted(choices))}"


def _line(details: Any) -> str:
    name, value = _option_name(details), details["input"]
    context = details.get("ctx", {})
    if details["type"] == "extra_forbidden":
        return f"{name}: no such option"
    if details["type"] == "missing":
        return f"{name}: no value given"
    if details["type"] == "union_tag_invalid":
        choices, tag = (
            context["expected_tags"].replace("'", ""),
            context["discriminator"].strip("'"),
        )
        return f"{name}.{tag}={context['tag']}: impossible value. Choose from: {choices}"
    if details["type"] == "literal_error":
        choices = context["expected"].replace("'", "").replace(" or ", ", ")
        return f"{name}={value}: impossible value. Choose from: {choices}"
    if details["type"] == "secret":  # which the value would tell
        return f"{name}: {details['msg']}"
    reason = str(context["error"]) if "error" in context else details["msg"]
    if isinstance(value, Mapping):  # what does not fit together names its options itself
        return reason
    return f"{name}={value}: {reason[0].lower()}{reason[1:]}"


def _option_name(details: Any) -> str:
    # A discriminated union puts the chosen member's tag into the path: logger.wandb.project.
    path = [str(part) for part in details["loc"]]
    if len(path) > 2 and path[0] == "logger":
        del path[1]
    return ".".join(path)
