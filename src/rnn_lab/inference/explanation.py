"""What an explanation holds, computed and written: explanation.json and states.npz."""

import contextlib
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnn_lab.data.vocabulary import UNK_ID
from rnn_lab.errors import CheckpointError
from rnn_lab.inference.batch_predict import classify
from rnn_lab.inference.integrated_gradients import TOKENS_AT_ONCE, integrated_gradients
from rnn_lab.inference.load import LoadedModel
from rnn_lab.io.atomic import atomic_write
from rnn_lab.models.trace import trace
from rnn_lab.reports.formatting import format_model, format_run
from rnn_lab.reports.run_files import read_result

# Kind, name and symbol of the values of a cell, by key.
_VALUES = {
    "f": ("gate", "forget gate", "f"),
    "i": ("gate", "input gate", "i"),
    "o": ("gate", "output gate", "o"),
    "z": ("gate", "update gate", "z"),
    "r": ("gate", "reset gate", "r"),
    "C_tilde": ("candidate", "candidate", r"\tilde{C}"),
    "h_tilde": ("candidate", "candidate", r"\tilde{h}"),
    "C": ("state", "cell state", "C"),
    "h": ("state", "hidden state", "h"),
}


def write_explanation(folder: Path, run: LoadedModel, text: str) -> None:
    """Explain the verdict of `run`, whose network is on the CPU, on `text`.

    `explanation.json` holds the words, the class probabilities after each token read so far, and
    the integrated gradients; `states.npz` every gate and state of each layer and direction, float32
    [time, hidden], under the names <layer>_<direction>_<gate>. rnn_lab.reports.explain
    reads them.
    """
    tokens = run.text_encoder.encode(text)  # [time]
    states = gates_and_states(run, tokens)
    probabilities = prefix_probabilities(run, tokens)
    predicted = int(probabilities[-1].argmax())
    moved = integrated_gradients(run.model, tokens, predicted)
    about = {
        "run": _words_of(run),
        "model": run.model_config.model_dump(),
        "class_names": run.class_names,
        "vocab_size": run.text_encoder.vocab_size,
        "max_length": run.text_encoder.max_length,
        "text": text,
        "words": _words(run, text),
        "probabilities": [[float(str(p)) for p in row] for row in probabilities],
        "attributions": moved.tokens.tolist(),
        "logit_difference": moved.difference,
        "baseline_logit_difference": moved.baseline,
        "steps": moved.steps,
        "values": describe_values(states),
    }
    with atomic_write(folder / "explanation.json") as file:
        json.dump(about, file, indent=1)
        file.write("\n")
    with atomic_write(folder / "states.npz") as file:
        np.savez_compressed(file.buffer, allow_pickle=False, **states)


def prefix_probabilities(run: LoadedModel, tokens: np.ndarray) -> np.ndarray:
    """Class probabilities, float32 [time, classes]: row t is what predict says of t + 1 tokens."""
    prefixes = [tokens[:end] for end in range(1, len(tokens) + 1)]
    return classify(run, prefixes, max(1, TOKENS_AT_ONCE // len(tokens)))


def gates_and_states(run: LoadedModel, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Every value of every cell, float32 [time, hidden], in the order of the tokens."""
    with torch.no_grad():
        embedded = run.model.embed(torch.from_numpy(tokens)[None])  # [1, time, embedding_dim]
        traces = trace(run.model.recurrent, embedded, torch.tensor([len(tokens)]))
    return {
        f"{one.layer}_{'backward' if one.backward else 'forward'}_{gate}": one.values(gate)[
            0
        ].numpy()
        for one in traces
        for gate in one.steps[0]._fields
    }


def describe_values(states: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return kind (gate, candidate or state), name and symbol of each value of a cell, by key.

    `states` are the names <layer>_<direction>_<key> of `gates_and_states`.
    """
    keys = dict.fromkeys(name.split("_", 2)[2] for name in states)
    return {
        key: dict(
            zip(("kind", "name", "symbol"), _VALUES.get(key, ("gate", key, key)), strict=True)
        )
        for key in keys
    }


def _words(run: LoadedModel, text: str) -> list[dict[str, Any]]:
    """Each word of `text`, with the range of its tokens among those read: empty where cut off."""
    words = run.text_encoder.words(text)
    ends = np.cumsum([0, *(len(ids) for _, ids in words)])
    first, last, _ = run.text_encoder.kept.indices(int(ends[-1]))
    ranges = pairwise(np.clip(ends, first, last) - first)
    return [
        {"word": word, "start": int(start), "stop": int(stop), "known": UNK_ID not in ids}
        for (word, ids), (start, stop) in zip(words, ranges, strict=True)
    ]


def _words_of(run: LoadedModel) -> str:
    """How pictures name the run: by its result.json where the checkpoint lies in a run's folder."""
    if run.path.parent.name == "checkpoints":
        with contextlib.suppress(CheckpointError):
            return format_run(read_result(run.path.parent.parent))
    return f"{format_model({'model': run.model_config.model_dump()})}, {run.path.name}"
