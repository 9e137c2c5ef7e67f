"""The checkpoint of a finished run, read as if a stranger had sent it.

Nothing in the file is run or imported. The network is built from the checked numbers and names
that describe it, and takes its weights from tensors that fit. So Lightning is not needed here,
nor the seconds that it takes to start.
"""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.overrides import TorchFunctionMode

from src.data.config import DataConfig
from src.data.text_encoder import TextEncoder
from src.errors import CheckpointError, ConfigError
from src.models.classifier import RecurrentClassifier
from src.models.config import ModelConfig, OptimizerConfig, SchedulerConfig

CLASSIFIER = "classifier."  # the name of the network within the LightningModule


@dataclass(frozen=True)
class TrainedRun:
    """What a checkpoint holds: a network ready to predict, and all that its input needs."""

    model: RecurrentClassifier
    text_encoder: TextEncoder
    class_names: tuple[str, ...]
    model_config: ModelConfig
    data_config: DataConfig
    corpus_fingerprint: str  # of the reviews that it was trained, validated and tested on
    path: Path  # of the checkpoint


class _Plain(BaseModel):
    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _HyperParameters(_Plain, extra="forbid"):
    """What a src.models.modules.TextClassifier saves of its making, and nothing beside."""

    model: ModelConfig
    vocab_size: int = Field(gt=0)
    num_classes: int = Field(ge=2)
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig


class _Data(_Plain):
    """What a src.data.datamodule.ReviewDataModule saves."""

    config: DataConfig
    class_names: list[str]
    corpus_fingerprint: str
    text_encoder: Any  # TextEncoder checks its own state


class _Checkpoint(_Plain):
    """The parts of a Lightning checkpoint that are read here."""

    state_dict: dict[str, Tensor]
    hyper_parameters: _HyperParameters
    data: _Data = Field(alias="ReviewDataModule")


def find_checkpoint(run: str) -> Path:
    """Return the checkpoint that `run` means: a run folder's best, else its last, or a .ckpt file.

    Raises:
        CheckpointError: there is none; names the places looked at.
    """
    path = Path(run).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"{run}: no such run folder or .ckpt file")
    places = [path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt"]
    for place in places:
        if place.is_file():
            return place
    raise CheckpointError(f"{run}: no finished run; looked for {places[0]} and {places[1].name}")


def load_run(run: str, device: str = "cpu") -> TrainedRun:
    """Read a run folder or .ckpt file into a float32 network in evaluation mode on `device`.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, not of this project, of parts that
            do not fit each other, or holds anything but plain data; or torch is too old to read
            one safely.
        ConfigError: this machine has no such device.
    """
    _check_torch(run)
    target = _device(device)
    path = find_checkpoint(run)
    content = _read(path)
    try:
        state = _Checkpoint.model_validate(content)
        text_encoder = TextEncoder.from_state_dict(state.data.text_encoder)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{path}: not a whole checkpoint of train.py: {where}: {first['msg']}"
        ) from None
    made, names = state.hyper_parameters, tuple(state.data.class_names)
    if made.num_classes != len(set(names)) or made.vocab_size != text_encoder.vocab_size:
        raise CheckpointError(
            f"{path}: damaged: a network of {made.num_classes} classes and {made.vocab_size} "
            f"tokens with {len(set(names))} class names and {text_encoder.vocab_size} tokens"
        )
    return TrainedRun(
        model=_build(path, made, state.state_dict).to(target),
        text_encoder=text_encoder,
        class_names=names,
        model_config=made.model,
        data_config=state.data.config,
        corpus_fingerprint=state.data.corpus_fingerprint,
        path=path,
    )


def _check_torch(run: str) -> None:
    # CVE-2025-32434 (before 2.6) and CVE-2026-24747 (before 2.10): a file made for it makes
    # torch.load(weights_only=True) run code. torch compares its versions by number.
    if torch.__version__ < "2.10":
        raise CheckpointError(
            f"run={run}: not read by torch {torch.__version__}: before 2.10 a file can make "
            "torch.load run code. The environment of requirements.txt reads this run too"
        )


def _read(path: Path) -> Any:
    """Unpickle numbers, names and tensors; tensors stay in the file until they are used."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        # torch stores and never compresses: anything else could grow without bound when read.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError(f"{path}: compressed, which checkpoints never are")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise CheckpointError(f"{path}: its parts are larger than the file")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except zipfile.BadZipFile:
        raise CheckpointError(f"{path}: cut off, or not a checkpoint") from None
    except Exception as error:  # a damaged file can fail anywhere in the reader
        if foreign := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise CheckpointError(
                f"{path}: refused: it would run {foreign[1]}; checkpoints hold plain data only"
            ) from None
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {reason}") from None


def _build(path: Path, made: _HyperParameters, weights: dict[str, Tensor]) -> RecurrentClassifier:
    """Build the network without memory of its own, then give it the checkpoint's tensors."""
    if not all(_is_plain(tensor) for tensor in weights.values()):
        raise CheckpointError(f"{path}: damaged: its weights are not plain tensors of numbers")
    if made.model.num_layers > len(weights):
        raise CheckpointError(f"{path}: damaged: fewer weights than layers")
    mine = {name.removeprefix(CLASSIFIER): tensor for name, tensor in weights.items()}
    try:
        with torch.device("meta"), _NoRandomWeights():
            model = RecurrentClassifier(made.model, made.vocab_size, made.num_classes)
        model.load_state_dict(mine, strict=True, assign=True)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        reason = re.sub(r"\s+", " ", str(error)).strip()
        raise CheckpointError(f"{path}: its weights do not fit its network: {reason}") from None
    if not all(tensor.isfinite().all() for tensor in mine.values()):
        raise CheckpointError(f"{path}: its weights are not finite numbers; the training diverged")
    return model.float().eval()


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
    return strided and tensor.dtype.is_floating_point and tensor.is_contiguous()


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
