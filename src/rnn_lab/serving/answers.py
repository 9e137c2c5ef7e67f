"""The JSON of predictions and explanations."""

import json
from typing import Any

import numpy as np

from rnn_lab.errors import ConfigError
from rnn_lab.inference.prediction_files import shortest_floats
from rnn_lab.serving.guard import RequestError
from rnn_lab.serving.runs import ServedRun, gates
from rnn_lab.serving.schemas import ExplainRequest

_MAX_EXPLAINED_TOKENS = 1024  # the time grows with the square of the tokens
_MAX_GATE_VALUES = 2**20  # in one response


def predictions_json(run: ServedRun, parts: list[np.ndarray]) -> bytes:
    """Return the response for probabilities, float32 [texts, classes] in parts."""
    predictions = [run.prediction(row) for part in parts for row in part]
    return encode(_answer(run) | {"predictions": predictions})


def explanation_json(run: ServedRun, asked: ExplainRequest) -> bytes:
    """Explain a text, and return the response."""
    count = len(run.predictor.encode(asked.text))
    if count > _MAX_EXPLAINED_TOKENS:
        raise RequestError(
            422,
            f"text: has {count:,} tokens; at most {_MAX_EXPLAINED_TOKENS:,} are explained here; "
            "`rnn-lab explain` has no limit",
        )
    if count * run.gate_values(asked.units) > _MAX_GATE_VALUES:
        raise RequestError(422, "units: too many for this text; ask for fewer units")
    try:
        found = run.explain(asked.text, asked.label)
    except ConfigError as error:
        raise RequestError(422, str(error)) from None
    after = [shortest_floats(row) for row in found.prefix_probabilities]  # [tokens, classes]
    difference, baseline = found.about["logit_difference"], found.about["baseline_logit_difference"]
    total, expected = float(found.attributions.sum()), difference - baseline
    words = [
        {
            "text": word.text,
            "known": word.known,
            "read": word.start < word.stop,
            "start": word.start,
            "stop": word.stop,
            "attribution": word.attribution,
            "probabilities": after[word.stop - 1] if word.start < word.stop else None,
        }
        for word in found.words
    ]
    answer = {
        "explained": found.explained,
        "words": words,
        "token_attributions": found.attributions.tolist(),
        "prefix_probabilities": after,
        "completeness": {
            "difference": difference,
            "baseline": baseline,
            "sum": total,
            "relative_error": abs(total - expected) / abs(expected) if expected else None,
        },
        "gates": gates(found, asked.units),
    }
    return encode(_answer(run) | run.prediction(found.prefix_probabilities[-1]) | answer)


def _answer(run: ServedRun) -> dict[str, Any]:
    predictor = run.predictor
    return {"run": run.name, "task": predictor.task, "classes": predictor.class_names}


def encode(answer: dict[str, Any]) -> bytes:
    """Return strict JSON."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
