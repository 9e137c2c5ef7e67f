"""Load the network of a finished run, ready to predict, from an untrusted file."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from rnn_lab.data.config import TextOptions
from rnn_lab.data.readers.labels import LIST
from rnn_lab.data.readers.reading import ReadInfo
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.inference.predictor import BFLOAT16, DEFAULT_SEPARATOR, FLOAT32, SingleModel
from rnn_lab.inference.recorded import training_read_info
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import ModelConfig
from rnn_lab.process import limit_threads
from rnn_lab.training.hardware import TORCH_DEVICES, available_devices
from rnn_lab.training.saved_network import read_network

if TYPE_CHECKING:
    from rnn_lab.inference.explanation import Explanation


@dataclass(frozen=True)
class LoadedModel(SingleModel):
    """A network of torch ready to predict, and what its input needs."""

    model: RecurrentClassifier
    text_encoder: TextEncoder
    class_names: tuple[str, ...]
    model_config: ModelConfig
    data_config: TextOptions
    corpus_fingerprint: str  # of the texts that it was trained, validated and tested on
    path: Path  # of the checkpoint
    read_info: ReadInfo | None = None  # how the files of its training texts were read
    # The parts of the checkpoint beside its weights, in plain types.
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    precision: str = FLOAT32  # or BFLOAT16: of the matrix products
    can_explain = True

    @property
    def cell(self) -> str:
        """The name of its cell: model.name."""
        return self.model_config.name

    @property
    def temperature(self) -> float:
        """What logits are divided by, so that probabilities are calibrated; 1.0: they are not."""
        return self.model.temperature.item()

    @property
    def thresholds(self) -> np.ndarray | None:
        """Where a text has any number of labels, the threshold of each, float32 [classes]."""
        found = self.model.thresholds
        return None if found is None else found.cpu().numpy()

    @property
    def label_separator(self) -> str:
        """What joins several labels in one cell of a table."""
        separator = getattr(self.data_config, "label_separator", None)
        return DEFAULT_SEPARATOR if separator in (None, LIST) else separator

    def probabilities(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities, float32 [texts, classes], of one batch of ids, int64 [length].

        Those of a text do not depend on the other texts.
        """
        device = next(self.model.parameters()).device
        lengths = torch.tensor([len(text) for text in texts])
        rows = [torch.from_numpy(text) for text in texts]
        tokens = pad_sequence(rows, batch_first=True)  # [batch, time]
        with torch.inference_mode():
            found = self.model.probabilities(
                tokens.to(device), lengths.to(device), bfloat16=self.precision == BFLOAT16
            )
            return found.cpu().numpy()

    def explain(self, text: str, label: str | None = None) -> "Explanation":
        """Explain the prediction for one text, on the CPU; see `explain_text`."""
        from rnn_lab.inference.explanation import explain_text  # captum takes a second to import

        is_on_cpu = next(self.model.parameters()).device.type == "cpu"
        return explain_text(self if is_on_cpu else self.explainer(), text, label)

    @torch.inference_mode(False)
    def explainer(self) -> "LoadedModel":
        """Return a copy on the CPU; threads share no network."""
        return replace(self, model=copy.deepcopy(self.model).cpu())


@torch.inference_mode(False)  # of a caller: its tensors could never be explained
def load_model(
    run: str | Path, device: str = "cpu", *, precision: str = FLOAT32, use_numba: bool = True
) -> LoadedModel:
    """Load a run folder or file as a float32 network in evaluation mode on `device`.

    `precision` is that of the matrix products; `use_numba` is of the recurrent layers.

    Raises:
        CheckpointError: it is of a language model, or as of `read_network`.
        ConfigError: this machine has no such device.
    """
    limit_threads()
    target = torch_device(device)
    saved = read_network(run)
    if not isinstance(saved.network, RecurrentClassifier):
        raise CheckpointError(
            f"{saved.path}: of a language model, which predicts no labels; a classifier starts "
            f"from it with train.py model.init_from={saved.path}"
        )
    saved.network.recurrent.use_numba = use_numba
    data = saved.data
    return LoadedModel(
        model=saved.network.to(target),
        text_encoder=saved.text_encoder,
        class_names=tuple(data.class_names),
        model_config=saved.model_config,
        data_config=data.config,
        corpus_fingerprint=data.corpus_fingerprint,
        path=saved.path,
        read_info=training_read_info(data.source_info),
        about=saved.about,
        precision=precision,
    )


def torch_device(name: str) -> torch.device:
    """Return the device of that name; of "auto", the fastest one.

    Raises:
        ConfigError: this machine has none.
    """
    present = available_devices()
    available = [device for kind, device in TORCH_DEVICES.items() if kind in present]
    if name not in ("auto", *available):
        raise ConfigError(
            f"device={name}: this machine has none. Choose from: auto, {', '.join(available)}"
        )
    return torch.device(available[0] if name == "auto" else name)
