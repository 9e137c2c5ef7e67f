"""The teacher of self-training: finished runs that label the texts of data.unlabelled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rnn_lab.data.batches import TextDataset
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.encode import EncodedTexts
from rnn_lab.data.progress import progress_bar
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.tokenizer_base import Tokenizer
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.io.safetensors_file import digest
from rnn_lab.models.averaging import mean_probabilities
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.runs.jobs import Runs, list_runs, refuse_unfinished
from rnn_lab.training.config import RunConfig
from rnn_lab.training.hardware import TORCH_DEVICES, Hardware
from rnn_lab.training.saved_network import read_network
from rnn_lab.training.train_hashes import same_split_options, warn_of_shared_texts

_BATCH_SIZE = 256


class _Member(NamedTuple):
    path: Path  # of the checkpoint
    network: RecurrentClassifier
    text_encoder: TextEncoder
    class_names: tuple[str, ...]
    fingerprint: str


class RunTeacher:
    """Labels texts by the mean of the calibrated probabilities of finished runs."""

    def __init__(self, runs: Runs, hardware: Hardware) -> None:
        """Read one run, several, or those of the folder of a sweep.

        Raises:
            CheckpointError: one of them is not a finished run of a classifier.
            ConfigError: one of them has any number of labels a text, or other classes.
        """
        self._device = torch.device(TORCH_DEVICES[hardware.accelerator])
        self._is_bf16 = hardware.precision == "bf16-mixed"
        try:
            self._members = [_read(run) for run in list_runs(runs)]
        except CheckpointError as error:
            raise CheckpointError(f"data.teacher: {error}") from None
        for member in self._members:
            if member.class_names != self.class_names:
                names = (", ".join(one) for one in (self.class_names, member.class_names))
                raise ConfigError(f"data.teacher: runs with other classes: {'; '.join(names)}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self._members[0].class_names

    @property
    def key(self) -> dict[str, Any]:
        """What decides the probabilities: the networks, the device and the precision."""
        networks = [member.fingerprint for member in self._members]
        return {"networks": networks, "device": self._device.type, "bf16": self._is_bf16}

    @property
    def checkpoints(self) -> list[Path]:
        """The file of each network."""
        return [member.path for member in self._members]

    def probabilities(self, encode: Callable[[Tokenizer], EncodedTexts]) -> np.ndarray:
        """Return the mean probabilities, see `rnn_lab.data.pseudo_labels.Teacher`."""
        return mean_probabilities([self._of_member(member, encode) for member in self._members])

    def _of_member(
        self, member: _Member, encode: Callable[[Tokenizer], EncodedTexts]
    ) -> np.ndarray:
        encoder = member.text_encoder
        texts = encode(encoder.vocabulary)
        dataset = TextDataset(
            texts, max_length=encoder.max_length, truncation_side=encoder.truncation_side
        )
        network = member.network.to(self._device)
        found = np.zeros((len(texts), len(self.class_names)), np.float32)
        # The longest first: what does not fit into memory fails at once.
        rows = np.argsort(-texts.lengths, kind="stable")
        rows = rows[: np.count_nonzero(texts.lengths)]
        with progress_bar("Labelling texts", len(rows)) as advance, torch.inference_mode():
            for first in range(0, len(rows), _BATCH_SIZE):
                batch = rows[first : first + _BATCH_SIZE]
                tokens, lengths = (part.to(self._device) for part in dataset[batch])
                probabilities = network.probabilities(tokens, lengths, bfloat16=self._is_bf16)
                found[batch] = probabilities.cpu().numpy()
                advance(len(batch))
        return found


def warn_of_teacher_texts(data: TextDataModule) -> None:
    """Warn where the teacher was trained on texts that validate or test the run."""
    if isinstance(teacher := data.teacher, RunTeacher):
        advice = f"give both runs {same_split_options(data)}"
        warn_of_shared_texts("data.teacher", teacher.checkpoints, data, "was trained on", advice)


def load_teacher(config: RunConfig, hardware: Hardware) -> RunTeacher | None:
    """Return the runs of data.teacher; None: the option is not set.

    Also where a checkpoint is only tested: the number of training texts, with those that the
    teacher is sure of, decides what `auto` means, and so the shape of the network.
    """
    if config.data.teacher is None:
        return None
    return RunTeacher(config.data.teacher, hardware)


def _read(run: str) -> _Member:
    refuse_unfinished(run)  # its labels would be those of a network that still learns
    saved = read_network(run)
    network = saved.network
    if not isinstance(network, RecurrentClassifier):
        raise CheckpointError(f"{saved.path}: of a language model, which predicts no labels")
    if network.thresholds is not None:
        raise ConfigError(
            f"data.teacher: {saved.path}: predicts any number of labels a text; a teacher predicts "
            "one label a text"
        )
    fingerprint = digest(network.state_dict(), saved.about)
    names = tuple(saved.data.class_names)
    return _Member(saved.path, network, saved.text_encoder, names, fingerprint)
