"""Make the .onnx file of a run, and compare it with the run before it is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.inference.batch_predict import classify
from rnn_lab.inference.load import LoadedModel
from rnn_lab.inference.onnx_graph import (
    CELLS,
    POOLINGS,
    GraphOptions,
    build_model,
    network_weights,
)
from rnn_lab.inference.onnx_model import MAX_BYTES, Description, OnnxModel, describe, parse_onnx
from rnn_lab.io.schema import SCHEMA_VERSION
from rnn_lab.models.classifier import RecurrentClassifier

TOLERANCE = 1e-4  # of a probability: some hundred roundings of float32
_BATCH = 16  # texts of different lengths
_RANDOM_TEXTS = 24


class Compared(NamedTuple):
    """How far an exported network is from the run."""

    texts: int  # that were read with both
    random: int  # of these, random sequences of words
    difference: float  # the largest of a probability


def export_onnx(run: LoadedModel, texts: Sequence[str]) -> tuple[bytes, Compared]:
    """Return the content of an .onnx file, and how it compares with the run on `texts`.

    Beside the texts, random sequences of words are compared, from one word to the longest text.

    Raises:
        ConfigError: ONNX has no such cell or pooling, or the network is too large.
        CheckpointError: the file does not give the probabilities of the run.
    """
    options = graph_options(run)
    weights = network_weights(options, _state(run.model))
    thresholds = None if run.thresholds is None else run.thresholds.tolist()
    description = Description(
        schema_version=SCHEMA_VERSION,
        graph=options,
        class_names=list(run.class_names),
        thresholds=thresholds,
        text_encoder=run.text_encoder.state_dict(),
        label_separator=run.label_separator,
        read_info=None if run.read_info is None else run.read_info.as_dict(),
    )
    size = sum(weight.nbytes for weight in weights.values())
    described = describe(description, weights)
    if size + 2 * len(described) > MAX_BYTES:
        raise ConfigError("an .onnx file has at most 2 GiB; export this run as .safetensors")
    model = build_model(options, described)
    for tensor in model.graph.initializer:
        tensor.raw_data = np.ascontiguousarray(weights[tensor.name], "<f4").tobytes()
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    return content, compare(run, parse_onnx(content, Path("model.onnx")), texts)


def graph_options(run: LoadedModel) -> GraphOptions:
    """Return the options of the graph of a run.

    Raises:
        ConfigError: its cell or pooling is not one of this package.
    """
    network, config = run.model, run.model_config
    for option, name, known in (
        ("name", network.recurrent.cell.name, CELLS),
        ("pooling", network.pooling, POOLINGS),
    ):
        if name not in known:
            raise ConfigError(
                f"model.{option}={name}: cannot be exported as .onnx, only as .safetensors. With "
                f"an .onnx file: {', '.join(known)}"
            )
    options = {
        "cell": network.recurrent.cell.name,
        "reset_after": getattr(network.recurrent.cell, "reset_after", True),
        "num_layers": config.num_layers,
        "bidirectional": config.bidirectional,
        "pooling": network.pooling,
        "ngrams": 0 if network.ngrams is None else network.ngrams.ngrams,
        "ngram_buckets": config.ngram_buckets,
        "vocab_size": network.embedding.num_embeddings,
        "embedding_dim": config.embedding_dim,
        "hidden_size": config.hidden_size,
        "num_classes": network.linear.out_features,
        "task": run.task,
    }
    return GraphOptions.model_validate(options)


def _state(network: RecurrentClassifier) -> dict[str, np.ndarray]:
    """Return the weights as float32 arrays, and beside them the IDF of the n-grams."""
    state = {name: weight.detach() for name, weight in network.state_dict().items()}
    if network.ngrams is not None:
        state["ngrams.idf"] = network.ngrams.importance
    return {name: weight.float().cpu().numpy() for name, weight in state.items()}


def compare(run: LoadedModel, exported: OnnxModel, texts: Sequence[str]) -> Compared:
    """Compare the probabilities of both on `texts` and on random words.

    Raises:
        CheckpointError: they differ by more than TOLERANCE.
    """
    encoded = [exported.text_encoder.encode(text) for text in texts]
    generator = np.random.default_rng(0)
    longest = min(run.text_encoder.max_length, 512)
    lengths = np.linspace(1, longest, _RANDOM_TEXTS).astype(int)
    vocab_size = run.text_encoder.vocab_size
    encoded += [generator.integers(1, max(vocab_size, 2), length) for length in lengths]
    theirs = classify(run, encoded, _BATCH)
    difference = float(np.abs(theirs - classify(exported, encoded, _BATCH)).max())
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"{run.path}: ONNX Runtime gives other probabilities than the run, by up to "
            f"{difference:.1e}; nothing was written"
        )
    return Compared(len(encoded), len(lengths), difference)
