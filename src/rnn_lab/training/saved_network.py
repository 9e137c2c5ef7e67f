"""Read the network of a finished run from an untrusted checkpoint or exported file.

Nothing in the file is run or imported. The network is built from the validated numbers and names
in the file and takes its weights from the tensors that fit. So reading needs no Lightning, and not
the seconds of its import.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rnn_lab.data.config import DataOptions, TextOptions
from rnn_lab.data.corpus import Task
from rnn_lab.data.sources.registry import SOURCES
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.tokenizer_base import TOKENIZERS
from rnn_lab.errors import CheckpointError, ConfigError, sanitize, whole_message
from rnn_lab.io.atomic import read_text
from rnn_lab.io.safe_load import safe_load
from rnn_lab.io.safetensors_file import SUFFIX, read_safetensors
from rnn_lab.io.schema import SCHEMA_KEY, schema_mismatch
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import ModelConfig, ModelOptions
from rnn_lab.models.language_model import RecurrentLanguageModel
from rnn_lab.models.registry import CELLS, POOLINGS
from rnn_lab.runs.run_folder import CONFIG_DIR, find_checkpoint, is_onnx_file, run_folder
from rnn_lab.runs.untrusted import get_group
from rnn_lab.validation import first_problem

DATA = "TextDataModule"  # key of the data's state in a checkpoint
_PREFIX = r"^(?:classifier|language_model)\."  # of the network's weights in a LightningModule
# In a config.yaml as Hydra writes it. Only its text is read: the file may be untrusted.
_PLUGINS = re.compile(r"^plugins:\n((?:- [\w.]+\n)+)", re.MULTILINE)
_SavedType = TypeVar("_SavedType", bound="_Saved")
_Network = TypeVar("_Network", bound=nn.Module)
# Of training alone: no plugin is needed to read it.
_Value = str | bool | int | float | None
_TrainingOption = _Value | list[_Value] | tuple[_Value, ...]


class _Plain(BaseModel):
    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _HyperParameters(_Plain, extra="forbid"):
    """The hyper-parameters that a TextClassifier saves, and no others."""

    model: ModelOptions
    vocab_size: int = Field(gt=0)
    num_classes: int = Field(ge=2)
    task: Task = "multiclass"
    optimizer: dict[str, _TrainingOption]
    scheduler: dict[str, _TrainingOption]
    loss: dict[str, float] = Field(default_factory=dict)


class _LanguageModelParameters(_Plain, extra="forbid"):
    """The hyper-parameters that a LanguageModel saves, and no others."""

    objective: Literal["language_model"]
    model: ModelOptions
    vocab_size: int = Field(gt=0)
    optimizer: dict[str, _TrainingOption]
    scheduler: dict[str, _TrainingOption]


class _OtherSource(TextOptions, extra="allow"):
    """The options of a source that no loaded module registers; only its texts need the module."""

    __pydantic_extra__: dict[str, JsonValue]

    has_unlabelled: ClassVar[bool] = True
    val_split: str = ""  # type: ignore[assignment]  # each source has choices of its own
    label_separator: str | None = None


def _of_any_source(options: Any) -> Any:
    source = get_group(options).get("source")
    is_unknown = isinstance(source, str) and source not in SOURCES
    return _OtherSource.model_validate(dict(options)) if is_unknown else options


class SavedData(_Plain):
    """The state of a rnn_lab.data.datamodule.TextDataModule."""

    config: Annotated[DataOptions, BeforeValidator(_of_any_source)]
    class_names: list[str]
    corpus_fingerprint: str
    source_info: dict[str, Any] = Field(default_factory=dict)  # of a Corpus
    text_encoder: Any  # TextEncoder checks its own state


class _Saved(_Plain):
    """The parts of any Lightning checkpoint that loading needs."""

    state_dict: dict[str, Tensor]
    data: SavedData = Field(alias=DATA)


class _Checkpoint(_Saved):
    """Those of a TextClassifier."""

    hyper_parameters: _HyperParameters


class _LanguageModelCheckpoint(_Saved):
    """Those of a LanguageModel."""

    hyper_parameters: _LanguageModelParameters


@dataclass(frozen=True)
class SavedNetwork:
    """The network of a finished run, a classifier or a language model, and what it goes with.

    Both kinds have an `embedding` and `recurrent` layers.
    """

    path: Path  # of the file
    network: RecurrentClassifier | RecurrentLanguageModel  # float32 on the CPU, to evaluate
    model_config: ModelConfig
    text_encoder: TextEncoder
    data: SavedData
    # The parts of the checkpoint beside its weights, in plain types.
    about: Mapping[str, Mapping[str, Any]]


def read_network(run: str | Path) -> SavedNetwork:
    """Read the network of a run folder or file.

    Raises:
        CheckpointError: there is no checkpoint; or it is damaged, not of this project, of another
            schema version, inconsistent, or contains anything but plain data; or its cell, pooling
            or tokenizer is of a plugin that is not loaded; or torch is too old to read one safely.
    """
    if is_onnx_file(run):
        raise CheckpointError(
            f"{run}: an .onnx file only predicts; for this, give the run folder, or a .ckpt or "
            ".safetensors file"
        )
    path = find_checkpoint(run)
    content = _read_ours(path)
    _check_plugins(path, content)
    if _is_language_model(content):
        return _language_model(path, content)
    return _classifier(path, content)


def _classifier(path: Path, content: Any) -> SavedNetwork:
    state, text_encoder = _validated(path, content, _Checkpoint)
    saved, names = state.hyper_parameters, set(state.data.class_names)
    if saved.num_classes != len(names) or saved.vocab_size != text_encoder.vocab_size:
        raise CheckpointError(
            f"{path}: damaged: a network of {saved.num_classes} classes and {saved.vocab_size} "
            f"tokens with {len(names)} class names and {text_encoder.vocab_size} tokens"
        )

    def build() -> RecurrentClassifier:
        return RecurrentClassifier(saved.model, saved.vocab_size, saved.num_classes, saved.task)

    network = _build(path, saved.model, state.state_dict, build)
    if not bool(network.temperature > 0):
        raise CheckpointError(f"{path}: damaged: its temperature is not positive")
    return SavedNetwork(path, network, saved.model, text_encoder, state.data, _about(content))


def _language_model(path: Path, content: Any) -> SavedNetwork:
    state, text_encoder = _validated(path, content, _LanguageModelCheckpoint)
    saved = state.hyper_parameters
    if saved.vocab_size != text_encoder.vocab_size:
        raise CheckpointError(
            f"{path}: damaged: a network of {saved.vocab_size} tokens with "
            f"{text_encoder.vocab_size} tokens"
        )

    def build() -> RecurrentLanguageModel:
        return RecurrentLanguageModel(saved.model, saved.vocab_size)

    network = _build(path, saved.model, state.state_dict, build)
    return SavedNetwork(path, network, saved.model, text_encoder, state.data, _about(content))


def _about(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in ("hyper_parameters", DATA)}


def _is_language_model(content: Any) -> bool:
    parameters = content.get("hyper_parameters") if isinstance(content, dict) else None
    return isinstance(parameters, dict) and "objective" in parameters


def _read_ours(path: Path) -> Any:
    """Return the content of a file; refuse one of another schema version."""
    try:
        content = _read(path)
        is_ours = isinstance(content, dict) and DATA in content
        if is_ours and (mismatch := schema_mismatch(content.get(SCHEMA_KEY))):
            raise CheckpointError(mismatch)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return content


def _validated(path: Path, content: Any, kind: type[_SavedType]) -> tuple[_SavedType, TextEncoder]:
    """Return the parts of a checkpoint, checked, and its tokenizer."""
    try:
        state = kind.model_validate(content)
        return state, TextEncoder.from_state_dict(state.data.text_encoder)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except ValidationError as error:
        reason = first_problem(error)
        raise CheckpointError(f"{path}: not a complete checkpoint of train.py: {reason}") from None


def _check_plugins(path: Path, content: Any) -> None:
    """Refuse a network with a cell, a pooling or a tokenizer that no loaded module registers."""
    model = get_group(content, "hyper_parameters", "model")
    names = (
        ("model.name", CELLS, model.get("name")),
        ("model.pooling", POOLINGS, model.get("pooling")),
        ("data.tokenizer", TOKENIZERS, get_group(content, DATA, "text_encoder").get("tokenizer")),
    )
    unknown = [
        f"{option}={sanitize(name, 50)}"
        for option, registry, name in names
        if isinstance(name, str) and name not in registry
    ]
    if unknown:
        raise CheckpointError(f"{path}: {needs_plugin(path, ' and '.join(unknown))}")


def needs_plugin(path: Path, options: str) -> str:
    """Return "needs the plugin that defines `options`; load it with plugins=[...]".

    The modules are those of the config in the folder of the run; nothing imports them.
    """
    folder = run_folder(path)
    try:
        config = "" if folder is None else read_text(folder / CONFIG_DIR / "config.yaml")
    except (OSError, UnicodeDecodeError):
        config = ""
    found = _PLUGINS.search(config)
    modules = sanitize(",".join(re.findall(r"[\w.]+", found[1]))) if found else "<its module>"
    return f"needs the plugin that defines {options}; load it with plugins=[{modules}]"


def _read(path: Path) -> Any:
    try:
        if path.suffix == SUFFIX:
            return read_safetensors(path)
        # CVE-2025-32434 (before 2.6) and CVE-2026-24747 (before 2.10): a crafted file makes
        # torch.load(weights_only=True) run code. torch compares its versions by number.
        if torch.__version__ < "2.10":
            raise CheckpointError(
                f"not read by torch {torch.__version__}: before 2.10 a file can make torch.load "
                "run code. The environment of requirements.txt reads it and can export it as "
                ".safetensors"
            )
        return safe_load(path, mmap=True)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from None


def _build(
    path: Path, config: ModelConfig, weights: dict[str, Tensor], build: Callable[[], _Network]
) -> _Network:
    """Build the network without allocating memory, then assign the checkpoint's tensors."""
    # A tensor that is not contiguous can be far larger than its bytes in the file.
    if not all(
        tensor.layout == torch.strided and tensor.dtype == torch.float32 and tensor.is_contiguous()
        for tensor in weights.values()
    ):
        raise CheckpointError(f"{path}: damaged: its weights are not plain float32 tensors")
    if config.num_layers > len(weights):
        raise CheckpointError(f"{path}: damaged: fewer weights than layers")
    mine = {re.sub(_PREFIX, "", name): tensor for name, tensor in weights.items()}
    try:
        with torch.device("meta"), _NoRandomWeights():
            model = build()
        model.load_state_dict(mine, strict=True, assign=True)
    except (RuntimeError, ValueError, TypeError, OverflowError, ConfigError) as error:
        reason = sanitize(whole_message(error))
        raise CheckpointError(f"{path}: its weights do not fit its network: {reason}") from None
    # In parts: the file is memory-mapped, and its weights need not all be in memory at once.
    parts = (part for tensor in mine.values() for part in tensor.view(-1).split(2**20))
    if not all(bool(part.isfinite().all()) for part in parts):
        raise CheckpointError(f"{path}: its weights are not finite numbers; the training diverged")
    return model.eval()


class _NoRandomWeights(TorchFunctionMode):
    """Skips `normal_`, which for a tensor without memory imports all of torch's compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ == "normal_":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
