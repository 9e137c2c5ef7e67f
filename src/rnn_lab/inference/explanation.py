"""Explain one prediction: attributions of words, predictions after each token, gates and states."""

import contextlib
import json
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_lab.data.vocabulary import PAD_ID, UNK_ID
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.inference.batch_predict import classify
from rnn_lab.inference.prediction_files import shortest_floats
from rnn_lab.io.atomic import atomic_write
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.trace import trace
from rnn_lab.paths import local_path
from rnn_lab.reports.formatting import (
    format_count,
    format_model,
    format_percent,
    format_run,
)
from rnn_lab.runs.result_json import read_result
from rnn_lab.runs.run_folder import run_folder
from rnn_lab.validation import unknown_choice_message

if TYPE_CHECKING:
    from rnn_lab.inference.load import LoadedModel

with warnings.catch_warnings():
    # tqdm, which captum imports, asks for ipywidgets in a notebook. Its bars are not used here.
    warnings.filterwarnings("ignore", message="IProgress not found")
    from captum.attr import IntegratedGradients

# Of integrated gradients:
TOLERANCE = 0.01  # relative error of completeness
MIN_STEPS, MAX_STEPS = 64, 1024
MAX_TOKENS_AT_ONCE = 25_600  # in one batch of points between baseline and text


@dataclass(frozen=True)
class WordAttribution:
    """One word as the network reads it, and its share of the prediction."""

    text: str
    attribution: float  # of the logit difference; 0.0 for a word that was cut off
    known: bool  # False: read as <unk>
    start: int  # of its tokens among those that were read
    stop: int  # equal to `start` for a word that was cut off


@dataclass(frozen=True, repr=False)
class Explanation:
    """One prediction explained. `time` is the tokens that were read, in the order of the text.

    Attributions are integrated gradients of the logit of the explained class minus the mean of the
    other logits; where a text has any number of labels, of its logit alone. They sum to that
    difference for the text minus the same for padding.
    """

    text: str
    prediction: str  # the most probable class
    explained: str  # the class of the attributions: `prediction`, or the one asked for
    labels: tuple[str, ...]  # what the run predicts: (prediction,), or any number of labels
    probabilities: dict[str, float]  # of every class
    words: tuple[WordAttribution, ...]
    prefix_probabilities: np.ndarray  # float32 [time, classes], after the first 1, 2, ... tokens
    attributions: np.ndarray  # float64 [time], one a token
    states: dict[str, np.ndarray]  # float32 [time, hidden] of <layer>_<direction>_<gate>
    about: dict[str, Any]  # the contents of explanation.json

    def __repr__(self) -> str:
        """Return the explained class, its probability and the number of words."""
        probability = format_percent(self.probabilities[self.explained])
        words = format_count(len(self.words), "word")
        return f"<Explanation of {self.explained!r}, {probability} [{words}]>"

    def _repr_html_(self) -> str:
        """Return the words in the colours of their attributions, for a notebook."""
        from rnn_lab.reports.explain.explanation_data import parse_explanation
        from rnn_lab.reports.explain.page import render_words

        return render_words(parse_explanation(self.about, self.states))

    def save(self, folder: str | Path) -> Path:
        """Write the page explanation.html with its plots and data to `folder`; return its path.

        Raises:
            WriteError: a file cannot be written; says why.
        """
        from rnn_lab.reports.explain.page import draw_explanation

        folder = local_path(folder)
        self.write(folder)
        return draw_explanation(folder)

    def write(self, folder: Path) -> None:
        """Write explanation.json and states.npz, which rnn_lab.reports.explain reads."""
        with atomic_write(folder / "explanation.json") as file:
            json.dump(self.about, file, indent=1)
            file.write("\n")
        with atomic_write(folder / "states.npz") as file:
            np.savez_compressed(file.buffer, allow_pickle=False, **self.states)


@torch.inference_mode(False)  # of a caller: attributions are gradients
def explain_text(run: "LoadedModel", text: str, label: str | None = None) -> Explanation:
    """Explain the prediction of `run`, whose network is on the CPU, for `text`.

    `label` is the class to explain, whether it is predicted or not; None: the most probable one.

    Raises:
        ConfigError: the run has no such class.
    """
    if label is not None and label not in run.class_names:
        message = f"label={label}: is no class of the run"
        raise ConfigError(unknown_choice_message(message, label, list(run.class_names)))
    tokens = run.text_encoder.encode(text)  # [time]
    states = gates_and_states(run, tokens)
    probabilities = prefix_probabilities(run, tokens)
    predicted = int(probabilities[-1].argmax())
    target = predicted if label is None else run.class_names.index(label)
    found = integrated_gradients(run.model, tokens, target)
    thresholds = run.model.thresholds
    words = attributed_words(run, text, found.tokens)
    cell = run.model.recurrent.cell
    about = {
        "run": _describe(run),
        "model": run.model_config.model_dump(),
        "values": {name: value._asdict() for name, value in cell.values.items()},
        "class_names": run.class_names,
        "target": target,
        "thresholds": None if thresholds is None else thresholds.tolist(),
        "temperature": run.model.temperature.item(),
        "vocab_size": run.text_encoder.vocab_size,
        "max_length": run.text_encoder.max_length,
        "text": text,
        "words": [
            {"word": word.text, "start": word.start, "stop": word.stop, "known": word.known}
            for word in words
        ],
        "probabilities": [shortest_floats(row) for row in probabilities],
        "attributions": found.tokens.tolist(),
        "logit_difference": found.difference,
        "baseline_logit_difference": found.baseline,
        "steps": found.steps,
    }
    return Explanation(
        text=text,
        prediction=run.class_names[predicted],
        explained=run.class_names[target],
        labels=run.predicted(probabilities[-1]),
        probabilities=dict(zip(run.class_names, probabilities[-1].tolist(), strict=True)),
        words=tuple(words),
        prefix_probabilities=probabilities,
        attributions=found.tokens,
        states=states,
        about=about,
    )


class Attributions(NamedTuple):
    """The attribution of every token, and the two logit differences that their sum connects."""

    tokens: np.ndarray  # float64 [time]
    difference: float  # of the logits, for the text
    baseline: float  # the same for the baseline
    steps: int  # points at which the gradient was evaluated


def integrated_gradients(
    model: RecurrentClassifier, tokens: np.ndarray, target: int, max_steps: int = MAX_STEPS
) -> Attributions:
    """Attribute the logit of class `target` against the other classes to `tokens`, int64 [time].

    The logit difference f is the logit of `target` minus the mean of the others. Where a text has
    any number of labels, these are no alternatives, and f is the logit of `target`. The gradients
    of f with respect to the embedded tokens are integrated along the straight line from the
    baseline, as many tokens of padding, by Gauss-Legendre quadrature (Sundararajan et al. 2017,
    equation 1). By completeness (proposition 1) the attributions sum to f(text) - f(baseline). The
    number of steps is doubled until they do so within TOLERANCE, or until it is `max_steps`. What
    the n-grams of model.ngrams add to f is linear, and added to the words that they consist of.

    `model` is on the CPU, in evaluation mode.
    """
    text = torch.from_numpy(tokens)[None]  # [1, time]
    lengths = torch.tensor([len(tokens)])
    classes = model.linear.out_features
    others = 0.0 if model.task.is_multilabel else -1 / (classes - 1)
    contrast = torch.full([classes], others, dtype=model.linear.weight.dtype)
    contrast[target] = 1

    def difference(embedded: Tensor, lengths: Tensor) -> Tensor:
        return model.forward_embedded(embedded, lengths) @ contrast  # [batch]

    with torch.no_grad():
        embedded, baseline = model.embed(text), model.embed(torch.full_like(text, PAD_ID))
        at_text, at_baseline = (difference(end, lengths).item() for end in (embedded, baseline))
        of_ngrams = np.zeros(len(tokens))
        if model.ngrams is not None:
            of_ngrams = (model.ngrams.attributions(text[0]) @ contrast).double().numpy()
    method = IntegratedGradients(difference)
    steps = MIN_STEPS
    while True:
        shares = method.attribute(
            embedded,
            baseline,
            additional_forward_args=(lengths,),
            n_steps=steps,
            internal_batch_size=max(1, MAX_TOKENS_AT_ONCE // len(tokens)),
        )  # [1, time, embedding_dim]
        found = shares[0].double().sum(dim=1).numpy()
        wanted = at_text - at_baseline
        if steps >= max_steps or abs(found.sum() - wanted) < TOLERANCE * abs(wanted):
            total = at_text + of_ngrams.sum()
            return Attributions(found + of_ngrams, total, at_baseline, steps)
        steps *= 2


def prefix_probabilities(run: "LoadedModel", tokens: np.ndarray) -> np.ndarray:
    """Return class probabilities, float32 [time, classes]: row t is for the first t + 1 tokens."""
    prefixes = [tokens[:end] for end in range(1, len(tokens) + 1)]
    return classify(run, prefixes, max(1, MAX_TOKENS_AT_ONCE // len(tokens)))


def gates_and_states(run: "LoadedModel", tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Return every value of every cell, float32 [time, hidden], in the order of the tokens."""
    with torch.no_grad():
        embedded = run.model.embed(torch.from_numpy(tokens)[None])  # [1, time, embedding_dim]
        traces = trace(run.model.recurrent, embedded, torch.tensor([len(tokens)]))
    found = {}
    for one in traces:
        direction = "backward" if one.backward else "forward"
        for gate in one.steps[0]:
            found[f"{one.layer}_{direction}_{gate}"] = one.values(gate)[0].numpy()
    return found


def attributed_words(
    run: "LoadedModel", text: str, attributions: np.ndarray
) -> list[WordAttribution]:
    """Return the words of `text`, of whose tokens that are read the attributions are given."""
    words = run.text_encoder.words(text)
    ends = np.cumsum([0, *(len(ids) for _, ids in words)])
    # Of the tokens that are read, so many are before the end of each word.
    kept_ends = np.searchsorted(run.text_encoder.kept(int(ends[-1])), ends)
    ranges = pairwise(kept_ends.tolist())
    return [
        WordAttribution(word, float(attributions[start:stop].sum()), UNK_ID not in ids, start, stop)
        for (word, ids), (start, stop) in zip(words, ranges, strict=True)
    ]


def _describe(run: "LoadedModel") -> str:
    """Return the name of the run for plots: from its result.json, if it is in a run folder."""
    if folder := run_folder(run.path):
        with contextlib.suppress(CheckpointError):
            return format_run(read_result(folder))
    return f"{format_model({'model': run.model_config.model_dump()})}, {run.path.name}"
