"""The checkpoint of a finished run, read as if a stranger had sent it.

Nothing in the file is run or imported. The network is built from the checked numbers and names
that describe it, and takes its weights from tensors that fit. So Lightning is not needed here,
nor the seconds that it takes to start.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rnn_lab.data.config import DataOptions, TextOptions
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.errors import CheckpointError, ConfigError, sanitize
from rnn_lab.inference.safetensors_io import SUFFIX, read_safetensors
from rnn_lab.io.safe_load import safe_load
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import ModelConfig, ModelOptions, OptimizerConfig, SchedulerConfig

CLASSIFIER = "classifier."  # the name of the network within the LightningModule


@dataclass(frozen=True)
class LoadedModel:
    """What a checkpoint holds: a network ready to predict, and all that its input needs."""

    model: RecurrentClassifier
    text_encoder: TextEncoder
    class_names: tuple[str, ...]
    model_config: ModelConfig
    data_config: TextOptions
    corpus_fingerprint: str  # of the reviews that it was trained, validated and tested on
    path: Path  # of the checkpoint
    # What the checkpoint holds beside weights, in plain types.
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


class _Plain(BaseModel):
    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _HyperParameters(_Plain, extra="forbid"):
    """What a TextClassifier saves of its making, and nothing beside."""

    model: ModelOptions
    vocab_size: int = Field(gt=0)
    num_classes: int = Field(ge=2)
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig


class _Data(_Plain):
    """What a rnn_lab.data.datamodule.TextDataModule saves."""

    config: DataOptions
    class_names: list[str]
    corpus_fingerprint: str
    text_encoder: Any  # TextEncoder checks its own state


class _Checkpoint(_Plain):
    """The parts of a Lightning checkpoint that are read here."""

    state_dict: dict[str, Tensor]
    hyper_parameters: _HyperParameters
    data: _Data = Field(alias="TextDataModule")


def find_checkpoint(run: str) -> Path:
    """Return the file that `run` means: itself, or a run folder's best checkpoint, else its last.

    Raises:
        CheckpointError: there is none; names the places looked at.
    """
    path = Path(run).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"{run}: no such run folder, .ckpt or .safetensors file")
    if not path.is_dir():
        raise CheckpointError(f"{run}: not a regular file")
    places = [path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt"]
    for place in places:
        if place.is_file():
            return place
    raise CheckpointError(f"{run}: no finished run; looked for {places[0]} and {places[1].name}")


def load_model(run: str, device: str = "cpu") -> LoadedModel:
    """Read a run folder or a file into a float32 network in evaluation mode on `device`.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, not of this project, of parts that
            do not fit each other, or holds anything but plain data; or torch is too old to read
            one safely.
        ConfigError: this machine has no such device.
    """
    target = _device(device)
    path = find_checkpoint(run)
    try:
        content = _read(path)
        state = _Checkpoint.model_validate(content)
        text_encoder = TextEncoder.from_state_dict(state.data.text_encoder)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = sanitize(f"{where}: {first['msg']}")
        raise CheckpointError(f"{path}: not a whole checkpoint of train.py: {said}") from None
    made, names = state.hyper_parameters, tuple(state.data.class_names)
    if made.num_classes != len(set(names)) or made.vocab_size != text_encoder.vocab_size:
        raise CheckpointError(
            f"{path}: damaged: a network of {made.num_classes} classes and {made.vocab_size} "
            f"tokens with {len(set(names))} class names and {text_encoder.vocab_size} tokens"
        )
    return LoadedModel(
        model=_build(path, made, state.state_dict).to(target),
        text_encoder=text_encoder,
        class_names=names,
        model_config=made.model,
        data_config=state.data.config,
        corpus_fingerprint=state.data.corpus_fingerprint,
        path=path,
        about={name: content[name] for name in ("hyper_parameters", "TextDataModule")},
    )


def _read(path: Path) -> Any:
    try:
        if path.suffix == SUFFIX:
            return read_safetensors(path)
        _check_torch()
        return safe_load(path, in_place=True)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from None


def _check_torch() -> None:
    # CVE-2025-32434 (before 2.6) and CVE-2026-24747 (before 2.10): a file made for it makes
    # torch.load(weights_only=True) run code. torch compares its versions by number.
    if torch.__version__ < "2.10":
        raise CheckpointError(
            f"not read by torch {torch.__version__}: before 2.10 a file can make torch.load run "
            "code. The environment of requirements.txt reads it, and can export it as .safetensors"
        )


def _build(path: Path, made: _HyperParameters, weights: dict[str, Tensor]) -> RecurrentClassifier:
    """Build the network without memory of its own, then give it the checkpoint's tensors."""
    if not all(_is_plain(tensor) for tensor in weights.values()):
        raise CheckpointError(f"{path}: damaged: its weights are not plain tensors of float32")
    if made.model.num_layers > len(weights):
        raise CheckpointError(f"{path}: damaged: fewer weights than layers")
    mine = {name.removeprefix(CLASSIFIER): tensor for name, tensor in weights.items()}
    try:
        with torch.device("meta"), _NoRandomWeights():
            model = RecurrentClassifier(made.model, made.vocab_size, made.num_classes)
        model.load_state_dict(mine, strict=True, assign=True)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        reason = sanitize(re.sub(r"\s+", " ", str(error)).strip())
        raise CheckpointError(f"{path}: its weights do not fit its network: {reason}") from None
    if not all(_is_finite(tensor) for tensor in mine.values()):
        raise CheckpointError(f"{path}: its weights are not finite numbers; the training diverged")
    return model.eval()


class _NoRandomWeights(TorchFunctionMode):
    """Leaves out `normal_`, which on a tensor without memory imports all of torch's compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ == "normal_":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _is_plain(tensor: Tensor) -> bool:
    # A tensor that is not contiguous can be far larger than its bytes in the file.
    strided = tensor.layout == torch.strided
    return strided and tensor.dtype == torch.float32 and tensor.is_contiguous()


def _is_finite(tensor: Tensor) -> bool:
    # Some at a time: the file is mapped, and its weights need never all be in memory.
    return all(bool(part.isfinite().all()) for part in tensor.view(-1).split(2**20))


def _device(name: str) -> torch.device:
    available: Sequence[str] = ["cpu"]
    if torch.cuda.is_available():
        available = ["cuda", "cpu"]
    elif torch.backends.mps.is_available():
        available = ["mps", "cpu"]
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise ConfigError(
            f"device={name}: this machine has none. Choose from: auto, {', '.join(available)}"
        )
    return torch.device(name)
