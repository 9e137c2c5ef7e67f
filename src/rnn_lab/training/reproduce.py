"""Reproduce a run: `python train.py reproduce=<result.json>` trains with that run's options.

The file may come from anywhere. Its values are checked as if they were typed, and none of them is
looked up, followed as a reference or built as an object. Options that only say where files are
(the archive, its address, the cache) are not taken from it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.options import SKIPGRAM
from rnn_lab.errors import CheckpointError, ConfigError, DataError
from rnn_lab.io.schema import SCHEMA_KEY, check_schema
from rnn_lab.overrides import in_quotes, quote_override
from rnn_lab.paths import conf_dir, local_path
from rnn_lab.plugins import load_named_plugins
from rnn_lab.runs.result_json import read_object
from rnn_lab.runs.run_config import read_config
from rnn_lab.runs.untrusted import get_group
from rnn_lab.training.config import RunConfig
from rnn_lab.training.spec import options_signature
from rnn_lab.validation import FINGERPRINT_EXCLUDED, validate

if TYPE_CHECKING:
    from rnn_lab.data.datamodule import TextDataModule

REPRODUCE = "reproduce"
# Code, which the file may not name: the user has to.
_CODE = {"plugins", "callbacks", "metrics"}
# May be given beside it: what no metric depends on, but for what stands for other options or for a
# place among many runs; code; and where a run trains and how it rounds, which may have to differ.
_ALLOWED = (
    FINGERPRINT_EXCLUDED - {"experiment", "search", "sweep", "trial", REPRODUCE}
    | _CODE
    | {"trainer.accelerator", "trainer.precision", "optimizer.sparse_embedding"}
)
_ALLOWED_GROUPS = {"hydra", "logger", "paths", *_CODE}
_GROUPS = ("model", "loss", "optimizer", "scheduler", "trainer")
# Of a result.json from before there were these groups.
_DEFAULTS: dict[str, Any] = {"loss": {}, "objective": {"name": "classification"}}
_MAX_BYTES = 2**20  # a result.json has some 4,000


@dataclass(frozen=True)
class RunRecord:
    """What a result.json says of a run: its content, and the options in it, checked."""

    path: Path
    result: dict[str, Any]
    config: RunConfig


def read_run_record(place: str) -> RunRecord:
    """Read the result.json at `place`, or in the output folder `place`.

    Raises:
        CheckpointError: it cannot be read, or does not hold the options of a training run.
    """
    path = local_path(place).absolute()
    if path.is_dir():
        path = path / "result.json"
    if path.exists() and (not path.is_file() or path.stat().st_size > _MAX_BYTES):
        raise CheckpointError(f"{path}: not a result.json")
    result = read_object(path)
    if "checkpoint" in result:
        raise CheckpointError(f"{path}: of a test by eval.py; give that of a training run")
    check_schema(result.get(SCHEMA_KEY), str(path))
    recorded = _DEFAULTS | result
    options: dict[str, Any] = {name: dict(_part(path, recorded, name)) for name in _GROUPS}
    options["model"].pop("parameters", None)
    options["data"] = _part(path, _part(path, result, "data"), "options")
    options |= {"seed": result.get("seed"), "logger": {"name": "none"}}
    options["objective"] = _part(path, recorded, "objective")
    for group, values in options.items():
        if isinstance(values, dict) and "_target_" in str(values):
            raise CheckpointError(f"{path}: {group}: names code to run, which is refused")
    monitor = str(options["trainer"].get("monitor", "")).partition("/")[2]
    if names := [name for name in result.get("metrics", {}) if name == monitor]:
        options["metrics"] = {names[0]: {"_target_": "named on the command line"}}
    try:
        config = validate(RunConfig, options)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {'; '.join(str(error).splitlines())}") from None
    return RunRecord(path, result, config)


def expand(arguments: Sequence[str]) -> list[str]:
    """Put the options of the run that `reproduce=<place>` names among the arguments of train.py.

    Raises:
        CheckpointError: there is no such run, or its result.json is not one.
        ConfigError: an argument would change the metrics; names it.
    """
    places = [argument for argument in arguments if argument.startswith(f"{REPRODUCE}=")]
    if not places or places[-1] == f"{REPRODUCE}=null":
        return list(arguments)
    parser = OverridesParser.create()
    load_named_plugins(arguments)
    record = read_run_record(str(parser.parse_override(places[-1]).value()))
    recorded, allowed = _overrides(record), set(_ALLOWED)
    if isinstance(record.config.data, FilesConfig):  # the texts are compared when they are read
        allowed |= {"data.train_path", "data.test_path"}
        if record.config.data.val_path is not None:
            allowed.add("data.val_path")
    if record.config.model.init_from is not None:
        allowed.add("model.init_from")
    if record.config.data.vectors not in (None, SKIPGRAM):
        allowed.add("data.vectors")
    if record.config.data.unlabelled not in (None, True):
        allowed.add("data.unlabelled")
    if record.config.data.teacher is not None:
        allowed.add("data.teacher")
    given = [argument for argument in arguments if argument not in places]
    for argument in given:
        if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
            continue  # Hydra's own flags and their values
        name = parser.parse_override(argument).key_or_group
        if name not in allowed and re.split("[./]", name)[0] not in _ALLOWED_GROUPS:
            raise ConfigError(
                f"{argument}: is taken from {record.path}. Beside {REPRODUCE}= only names, places "
                f"and speed may be given: {', '.join(sorted(allowed))}, hydra.run.dir"
            )
        recorded.pop(name, None)
    return [*recorded.values(), *given]


def collapse(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a run as its command had them: `expand` undone."""
    quoted = [text for text in overrides if text.startswith(f"{REPRODUCE}='")]
    if not quoted:
        return list(overrides)
    place = str(OverridesParser.create().parse_override(quoted[0]).value())
    try:
        expanded = set(_overrides(read_run_record(place)).values())
    except CheckpointError:  # the file is gone by now
        return list(overrides)
    return [quote_override(REPRODUCE, place), *(text for text in overrides if text not in expanded)]


def check_same_data(place: str, data: "TextDataModule") -> None:
    """Make sure, before anything is trained, that `data` holds the texts of that run.

    Raises:
        DataError: the texts, or the vocabulary made of them, differ.
    """
    record = read_run_record(place)
    recorded = _part(record.path, record.result, "data")
    if texts := _difference(recorded.get("fingerprint"), data.corpus.fingerprint):
        advice = {
            "files": "name them, under their old file names: data.train_path=<path>",
            "imdb": "name their folder: data.root=<folder>",
        }.get(data.config.source, "another version of this project made them")
        raise DataError(f"{record.path}: was trained on other texts {texts}; {advice}")
    if (here := data.unlabelled_fingerprint) is not None:
        key, name = "unlabelled_fingerprint", "pretraining_texts"
        if data.use_labels:
            key, name = "fingerprint", "unlabelled"
        if texts := _difference(get_group(recorded, name).get(key), here):
            raise DataError(
                f"{record.path}: was trained on other unlabelled texts {texts}; give "
                "data.unlabelled=<file>"
            )
    if data.pseudo_labelled is not None:
        then = get_group(recorded, "pseudo_labels").get("fingerprint")
        if labels := _difference(then, data.pseudo_labelled.fingerprint):
            raise DataError(
                f"{record.path}: was trained on other pseudo-labels {labels}; give "
                "data.teacher=<run>"
            )
    fingerprint = recorded.get("vocabulary_fingerprint")
    if vocabulary := _difference(fingerprint, data.text_encoder.fingerprint):
        raise DataError(
            f"{record.path}: had another vocabulary {vocabulary} of the same texts: it was built "
            "by another version of this project or of its tokenizer"
        )


def _difference(recorded: Any, here: str) -> str | None:
    """Return two fingerprints for a message; None: they are equal."""
    if recorded == here:
        return None
    then = recorded if isinstance(recorded, str) else "unknown"
    return f"(fingerprint {then:.12}, here {here:.12})"


def _overrides(record: RunRecord) -> dict[str, str]:
    """Return Hydra's overrides for a run, by the name of the option."""
    config = record.config
    overrides = {REPRODUCE: f"{REPRODUCE}={_quoted(record.path, REPRODUCE, str(record.path))}"}
    for group in ("model", "optimizer", "scheduler"):
        name = getattr(config, group).name
        has_file = (conf_dir() / group / f"{name}.yaml").exists()
        overrides[group] = f"{group}={name}" if has_file else f"~{group}"
    overrides["objective"] = f"objective={config.objective.name}"
    overrides |= {"data": f"data={config.data.source}", "trainer": "trainer=auto"}
    overrides["loss"] = "loss=cross_entropy"
    groups = {*_GROUPS, "objective", "seed", "data", "train", "test"}
    signature = options_signature(config.model_dump(mode="json", include=groups))
    # No metric depends on these: only the config beside the file has them.
    composed = read_config(record.path.parent)
    signature |= {name: composed[name] for name in ("baseline", "plots") if name in composed}
    for name, value in signature.items():
        overrides[name] = f"++{name}={_quoted(record.path, name, value)}"
    return overrides


def _quoted(path: Path, name: str, value: Any) -> str:
    """Return a value in Hydra's grammar, in which a string in quotes is that string."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(_quoted(path, name, item) for item in value)}]"
    if not isinstance(value, str):
        return repr(value)
    if "${" in value:
        raise CheckpointError(f"{path}: {name}: holds a reference, ${{...}}, which is not followed")
    return in_quotes(value)


def _part(path: Path, result: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(result.get(name), dict):
        raise CheckpointError(f"{path}: has no {name!r}, which reproducing the run needs")
    part: dict[str, Any] = result[name]
    return part
