"""Reproduce a run: `python train.py reproduce=<result.json>` trains with that run's options.

The file may come from anywhere. Its values are checked as if they were typed, and none of them is
looked up, followed as a reference or built as an object. Options that only say where files are
(the archive, its address, the cache) are not taken from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString

from rnn_lab.data.config import FilesConfig
from rnn_lab.errors import CheckpointError, ConfigError, DataError
from rnn_lab.io.schema import SCHEMA_KEY, check_schema
from rnn_lab.paths import conf_dir
from rnn_lab.reports.run_files import read_object
from rnn_lab.training.config import RunConfig
from rnn_lab.training.spec import options_signature
from rnn_lab.validation import FINGERPRINT_EXCLUDED, validate

if TYPE_CHECKING:
    from rnn_lab.data.datamodule import TextDataModule

REPRODUCE = "reproduce"
# Options that stand for other options, or for a place among many runs.
_NOT_ALONE = {"experiment", "search", "sweep", "trial"}
# Where a run trains and how it rounds, which may have to differ on this machine.
_LOCAL = {"trainer.accelerator", "trainer.precision", "optimizer.sparse_embedding"}
# Code, which the file may not name: the user has to.
_CODE = {"plugins", "callbacks", "metrics"}
# Where a user's own texts are: whether they are the same ones is checked when they are read.
_TEXTS = {"data.train_path", "data.test_path"}
_GROUPS = ("model", "optimizer", "scheduler", "trainer")
# Files of conf that hold no option of one cell, optimizer or schedule alone, for a name that has no
# file. Every value in them is replaced.
_PLAIN_CHOICES = {"model": "rnn", "optimizer": "adamw", "scheduler": "constant"}
_MAX_BYTES = 2**20  # a result.json has some 4,000


@dataclass(frozen=True)
class RunRecord:
    """What a result.json says of a run: its content, and the options in it, checked."""

    path: Path
    result: dict[str, Any]
    config: RunConfig

    @property
    def signature(self) -> dict[str, Any]:
        """The options that the metrics depend on, flat: {"model.hidden_size": 128, ...}."""
        groups = {*_GROUPS, "seed", "data", "train", "test"}
        return options_signature(self.config.model_dump(mode="json", include=groups))


def read_run_record(place: str) -> RunRecord:
    """Read the result.json at `place`, or in the output folder `place`.

    Raises:
        CheckpointError: it cannot be read, or does not hold the options of a training run.
    """
    path = Path(place).expanduser().absolute()
    if path.is_dir():
        path = path / "result.json"
    if path.exists() and (not path.is_file() or path.stat().st_size > _MAX_BYTES):
        raise CheckpointError(f"{path}: not a result.json")
    result = read_object(path)
    if "checkpoint" in result:
        raise CheckpointError(f"{path}: of a test by eval.py; give that of a training run")
    check_schema(result.get(SCHEMA_KEY), str(path))
    options: dict[str, Any] = {name: _part(path, result, name) for name in _GROUPS}
    options["model"] = {n: v for n, v in options["model"].items() if n != "parameters"}
    options["data"] = _part(path, _part(path, result, "data"), "options")
    options |= {"seed": result.get("seed"), "logger": {"name": "none"}}
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
    _load_plugins(arguments)
    record = read_run_record(places[-1].partition("=")[2])
    recorded = _overrides(record)
    given = [argument for argument in arguments if argument not in places]
    named = set()
    for argument in given:
        if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
            continue  # Hydra's own flags and their values
        name = OverridesParser.create().parse_override(argument).key_or_group
        if not _may_be_given(name, record):
            raise ConfigError(
                f"{argument}: is taken from {record.path}. Beside {REPRODUCE}= only names, places "
                f"and speed may be given: {', '.join(sorted(_allowed(record)))}, hydra.run.dir"
            )
        named.add(name)
    recorded = {name: text for name, text in recorded.items() if name not in named}
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
    return [f"{REPRODUCE}={place}", *(text for text in overrides if text not in expanded)]


def check_same_data(place: str, data: "TextDataModule") -> None:
    """Make sure, before anything is trained, that `data` holds the texts of that run.

    Raises:
        DataError: the texts, or the vocabulary made of them, differ.
    """
    record = read_run_record(place)
    then, vocabulary = _part(record.path, record.result, "data"), data.text_encoder.fingerprint
    if then.get("fingerprint") != data.corpus.fingerprint:
        raise DataError(
            f"{record.path}: was trained on other texts (fingerprint "
            f"{_short(then.get('fingerprint'))}, here {_short(data.corpus.fingerprint)}); "
            f"{_where_texts_are(data)}"
        )
    if then.get("vocabulary_fingerprint") != vocabulary:
        raise DataError(
            f"{record.path}: had another vocabulary (fingerprint "
            f"{_short(then.get('vocabulary_fingerprint'))}, here {_short(vocabulary)}) of the "
            "same texts: it was built by another version of this project or of its tokenizer"
        )


def _load_plugins(arguments: Sequence[str]) -> None:
    """Import the modules of a `plugins=` argument, which register what the record may name."""
    from rnn_lab.plugins import load_plugins

    for argument in arguments:
        if argument.startswith("plugins="):
            names = OverridesParser.create().parse_override(argument).value()
            load_plugins([str(n) for n in (names if isinstance(names, list) else [names])])


def _overrides(record: RunRecord) -> dict[str, str]:
    """Return Hydra's overrides for a run, by the name of the option."""
    config = record.config
    said = {REPRODUCE: f"{REPRODUCE}={_quoted(record.path, REPRODUCE, str(record.path))}"}
    for group, plain in _PLAIN_CHOICES.items():
        name = getattr(config, group).name
        has_file = (conf_dir() / group / f"{name}.yaml").exists()
        said[group] = f"{group}={name if has_file else plain}"
    said |= {"data": f"data={config.data.source}", "trainer": "trainer=auto"}
    for name, value in record.signature.items():
        said[name] = f"++{name}={_quoted(record.path, name, value)}"
    return said


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
    return QuotedString(value, Quote.single).with_quotes()


def _allowed(record: RunRecord) -> frozenset[str]:
    texts = set()
    if isinstance(record.config.data, FilesConfig):
        has_validation = record.config.data.val_path is not None
        texts = _TEXTS | ({"data.val_path"} if has_validation else set())
    return (FINGERPRINT_EXCLUDED - _NOT_ALONE - {REPRODUCE}) | _LOCAL | _CODE | texts


def _may_be_given(name: str, record: RunRecord) -> bool:
    group = name.split(".")[0].split("/")[0]
    return name in _allowed(record) or group in {"hydra", "logger", "paths", *_CODE}


def _where_texts_are(data: "TextDataModule") -> str:
    source = data.config.source
    if source == "files":
        return "name them, under their old file names: data.train_path=<path>"
    if source == "imdb":
        return "name their folder: data.root=<folder>"
    return "another version of this project made them"


def _part(path: Path, result: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(result.get(name), dict):
        raise CheckpointError(f"{path}: has no {name!r}, which reproducing the run needs")
    part: dict[str, Any] = result[name]
    return part


def _short(fingerprint: Any) -> str:
    return f"{fingerprint!s:.12}" if isinstance(fingerprint, str) else "unknown"
