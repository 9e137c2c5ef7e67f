"""The checkpoint of a finished run, read as if a stranger had sent it.

Nothing in the file is run or imported. The network is built from the checked numbers and names
that describe it, and takes its weights from tensors that fit. So Lightning is not needed here,
nor the seconds that it takes to start.
"""

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from src.data.config import DataConfig
from src.data.text_encoder import TextEncoder
from src.errors import CheckpointError, ConfigError
from src.models.classifier import RecurrentClassifier
from src.models.config import ModelConfig

CLASSIFIER = "classifier."  # the name of the network within the LightningModule

Checked = TypeVar("Checked")


@dataclass(frozen=True)
class TrainedRun:
    """What a checkpoint holds: a network ready to predict, and all that its input needs."""

    model: RecurrentClassifier
    text_encoder: TextEncoder
    class_names: tuple[str, ...]
    model_config: ModelConfig
    data_config: DataConfig
    path: Path  # of the checkpoint

    @property
    def folder(self) -> Path | None:
        """The run folder, unless the checkpoint stands alone."""
        return self.path.parent.parent if self.path.parent.name == "checkpoints" else None


class _Network(BaseModel):
    """The hyper-parameters of a src.models.modules.TextClassifier that shape its network."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: ModelConfig
    vocab_size: int = Field(gt=0)
    num_classes: int = Field(ge=2)


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
            do not fit each other, or holds anything but plain data.
        ConfigError: this machine has no such device.
    """
    target = _device(device)
    path = find_checkpoint(run)
    state = _read(path)
    try:
        weights, network = state["state_dict"], state["hyper_parameters"]
        data = state["ReviewDataModule"]
        data_options, class_names = data["config"], data["class_names"]
        encoder = data["text_encoder"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of train.py: has no {error}") from None
    shape = _checked(path, _Network.model_validate, network)
    names = _checked(path, TypeAdapter(list[str]).validate_python, class_names)
    text_encoder = _checked(path, TextEncoder.from_state_dict, encoder)
    if shape.num_classes != len(set(names)) or shape.vocab_size != text_encoder.vocab_size:
        raise CheckpointError(
            f"{path}: damaged: a network of {shape.num_classes} classes and {shape.vocab_size} "
            f"tokens with {len(set(names))} class names and {text_encoder.vocab_size} tokens"
        )
    return TrainedRun(
        model=_build(path, shape, weights).to(target),
        text_encoder=text_encoder,
        class_names=tuple(names),
        model_config=shape.model,
        data_config=_checked(path, TypeAdapter(DataConfig).validate_python, data_options),
        path=path,
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


def _build(path: Path, network: _Network, weights: Any) -> RecurrentClassifier:
    """Build the network without memory of its own, then give it the checkpoint's tensors."""
    if not isinstance(weights, dict) or not all(_is_plain(tensor) for tensor in weights.values()):
        raise CheckpointError(f"{path}: damaged: its weights are not plain tensors of numbers")
    if network.model.num_layers > len(weights):
        raise CheckpointError(f"{path}: damaged: fewer weights than layers")
    mine = {str(name).removeprefix(CLASSIFIER): tensor for name, tensor in weights.items()}
    try:
        with torch.device("meta"):
            model = RecurrentClassifier(network.model, network.vocab_size, network.num_classes)
        model.load_state_dict(mine, strict=True, assign=True)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        reason = re.sub(r"\s+", " ", str(error)).strip()
        raise CheckpointError(f"{path}: its weights do not fit its network: {reason}") from None
    if not all(tensor.isfinite().all() for tensor in mine.values()):
        raise CheckpointError(f"{path}: its weights are not finite numbers; the training diverged")
    return model.float().eval()


def _is_plain(tensor: Any) -> bool:
    # A tensor that is not contiguous can be far larger than its bytes in the file.
    return (
        isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.dtype.is_floating_point
        and tensor.is_contiguous()
    )


def _checked(path: Path, check: Callable[[Any], Checked], value: Any) -> Checked:
    try:
        return check(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: damaged: {where}: {first['msg']}") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


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
