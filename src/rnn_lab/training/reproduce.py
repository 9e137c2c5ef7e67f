"""Reproduce a run: `python train.py reproduce=<result.json>` trains with that run's options.

The file may come from anywhere. Its numbers and names are checked as if they were typed, none of
them is looked up or followed as a reference, and what only says where files lie (the archive, its
address, the cache) is not taken from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString

from rnn_lab.data.config import FilesConfig
from rnn_lab.errors import CheckpointError, ConfigError, DataError
from rnn_lab.reports.run_files import read_object
from rnn_lab.training.config import RunConfig
from rnn_lab.validation import FINGERPRINT_EXCLUDED, flatten, validate

if TYPE_CHECKING:
    from rnn_lab.data.datamodule import TextDataModule

REPRODUCE = "reproduce"
# Not of a run again: these stand for other options, or for a place among many runs.
_NOT_ALONE = {"experiment", "search", "sweep", "trial"}
# Where it trains and how it rounds, which on this machine may have to differ.
_NAMED = {"trainer.accelerator", "trainer.precision", "optimizer.sparse_embedding"}
# Where a user's own texts lie: whether they are the same ones is seen when they are read.
_TEXTS = {"data.train", "data.test"}
_CUTS = {"stratified", "random"}  # values of data.validation that are no file
_GROUPS = ("model", "optimizer", "scheduler", "trainer")
_LARGEST = 2**20  # bytes; a result.json has some 4,000


@dataclass(frozen=True)
class RunRecord:
    """What a result.json says of a run: as it stands there, and the options in it, checked."""

    path: Path
    result: dict[str, Any]
    config: RunConfig

    @property
    def deciding(self) -> dict[str, Any]:
        """The options that figures depend on, flat: {"model.hidden_size": 128, ...}."""
        groups = {*_GROUPS, "seed", "data"}
        options = flatten(self.config.model_dump(mode="json", include=groups))
        return {name: value for name, value in options.items() if name not in FINGERPRINT_EXCLUDED}


def read_run_record(place: str) -> RunRecord:
    """Read the result.json at `place`, or in the run folder `place`.

    Raises:
        CheckpointError: it cannot be read, or does not hold the options of a training.
    """
    path = Path(place).expanduser().absolute()
    if path.is_dir():
        path = path / "result.json"
    if path.exists() and (not path.is_file() or path.stat().st_size > _LARGEST):
        raise CheckpointError(f"{path}: not a result.json")
    result = read_object(path)
    if "checkpoint" in result:
        raise CheckpointError(f"{path}: of a test by eval.py; give that of a training")
    options: dict[str, Any] = {name: _part(path, result, name) for name in _GROUPS}
    options["model"] = {n: v for n, v in options["model"].items() if n != "parameters"}
    options["data"] = _part(path, _part(path, result, "data"), "options")
    options |= {"seed": result.get("seed"), "logger": {"name": "none"}}
    try:
        config = validate(RunConfig, options)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {'; '.join(str(error).splitlines())}") from None
    return RunRecord(path, result, config)


def expand(arguments: Sequence[str]) -> list[str]:
    """Put the options of the run that `reproduce=<place>` names among the arguments of train.py.

    Raises:
        CheckpointError: there is no such run, or its result.json is not one.
        ConfigError: an argument would change the figures; names it.
    """
    places = [argument for argument in arguments if argument.startswith(f"{REPRODUCE}=")]
    if not places or places[-1] == f"{REPRODUCE}=null":
        return list(arguments)
    run = read_run_record(places[-1].partition("=")[2])
    recorded = _overrides(run)
    given = [argument for argument in arguments if argument not in places]
    named = set()
    for argument in given:
        if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
            continue  # Hydra's own flags and what they are given
        name = OverridesParser.create().parse_override(argument).key_or_group
        if not _may_be_given(name, run):
            raise ConfigError(
                f"{argument}: is taken from {run.path}. Beside {REPRODUCE}= only names, places and "
                f"speed may be given: {', '.join(sorted(_allowed(run)))}, hydra.run.dir"
            )
        named.add(name)
    recorded = {name: text for name, text in recorded.items() if name not in named}
    return [*recorded.values(), *given]


def as_given(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a run as its command had them, `expand` undone."""
    quoted = [text for text in overrides if text.startswith(f"{REPRODUCE}='")]
    if not quoted:
        return list(overrides)
    place = str(OverridesParser.create().parse_override(quoted[0]).value())
    try:
        expanded = set(_overrides(read_run_record(place)).values())
    except CheckpointError:  # it is gone by now
        return list(overrides)
    return [f"{REPRODUCE}={place}", *(text for text in overrides if text not in expanded)]


def check_reviews(place: str, data: "TextDataModule") -> None:
    """Make sure, before anything is trained, that `data` holds the reviews of that run.

    Raises:
        DataError: they, or the vocabulary made of them, are others.
    """
    run = read_run_record(place)
    then, words = _part(run.path, run.result, "data"), data.text_encoder.fingerprint
    if then.get("fingerprint") != data.corpus.fingerprint:
        raise DataError(
            f"{run.path}: its reviews were others (fingerprint {_short(then.get('fingerprint'))}, "
            f"here {_short(data.corpus.fingerprint)}); {_where_reviews_lie(data)}"
        )
    if then.get("vocabulary_fingerprint") != words:
        raise DataError(
            f"{run.path}: its vocabulary was another (fingerprint "
            f"{_short(then.get('vocabulary_fingerprint'))}, here {_short(words)}), of the same "
            "reviews: it was made by other versions of this project or of its tokenizer"
        )


def _overrides(run: RunRecord) -> dict[str, str]:
    """Return what Hydra is to be told of a run, by the name of the option."""
    config = run.config
    said = {REPRODUCE: f"{REPRODUCE}={_written(run.path, REPRODUCE, str(run.path))}"}
    said |= {name: f"{name}={getattr(config, name).name}" for name in _GROUPS[:3]}
    said |= {"data": f"data={config.data.source}", "trainer": "trainer=auto"}
    for name, value in run.deciding.items():
        said[name] = f"++{name}={_written(run.path, name, value)}"
    return said


def _written(path: Path, name: str, value: Any) -> str:
    """Return a value in Hydra's grammar, in which a string in quotes is that string."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(_written(path, name, item) for item in value)}]"
    if not isinstance(value, str):
        return repr(value)
    if "${" in value:
        raise CheckpointError(f"{path}: {name}: holds a reference, ${{...}}, which is not followed")
    return QuotedString(value, Quote.single).with_quotes()


def _allowed(run: RunRecord) -> frozenset[str]:
    texts = set()
    if isinstance(run.config.data, FilesConfig):
        cut = run.config.data.validation in _CUTS
        texts = _TEXTS | (set() if cut else {"data.validation"})
    return (FINGERPRINT_EXCLUDED - _NOT_ALONE - {REPRODUCE}) | _NAMED | texts


def _may_be_given(name: str, run: RunRecord) -> bool:
    return name in _allowed(run) or name.split(".")[0].split("/")[0] in {"hydra", "logger"}


def _where_reviews_lie(data: "TextDataModule") -> str:
    source = data.config.source
    if source == "files":
        return "say where they lie, under their old file names: data.train=<path> (and data.test)"
    if source == "imdb":
        return "say where they lie: data.root=<folder>"
    return "another version of this project made them"


def _part(path: Path, result: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(result.get(name), dict):
        raise CheckpointError(f"{path}: has no {name!r}, which a run again needs")
    part: dict[str, Any] = result[name]
    return part


def _short(fingerprint: Any) -> str:
    return f"{fingerprint!s:.12}" if isinstance(fingerprint, str) else "unknown"
