"""Predict with an exported .onnx file, by ONNX Runtime and without torch.

The file may come from anyone. ONNX can name other files to read weights from, custom operators,
and graphs of any cost. So the graph is built here from the options in the file (`onnx_graph.py`),
and the file must be equal to it in everything but the values of the weights, before ONNX Runtime
sees it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, ValidationError

from rnn_lab.data.readers.reading import ReadInfo
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.vocabulary import PAD_ID
from rnn_lab.errors import CheckpointError, ConfigError, sanitize
from rnn_lab.inference import onnx_graph
from rnn_lab.inference.onnx_graph import METADATA_KEY, GraphOptions, build_model, weight_shapes
from rnn_lab.inference.predictor import SingleModel
from rnn_lab.io.atomic import open_untrusted
from rnn_lab.io.schema import SCHEMA_KEY, schema_mismatch
from rnn_lab.paths import local_path
from rnn_lab.validation import first_problem

MAX_BYTES = 2**31 - 1  # of a protobuf message
_DIGEST = "sha256"
_OPERATORS = frozenset(
    {
        *("Add", "And", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "GRU", "Gather"),
        *("GatherND", "Gemm", "GreaterOrEqual", "Identity", "LSTM", "Less", "Log", "MatMul", "Max"),
        *("Mod", "Mul", "Neg", "NonZero", "RNN", "Range", "ReduceMax", "ReduceSum", "Reshape"),
        *("ReverseSequence", "Scan", "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Slice"),
        *("Softmax", "Softplus", "Split", "Sqrt", "Sub", "Transpose", "Unique", "Unsqueeze"),
        "Where",
    }
)


class Description(BaseModel):
    """The metadata of a file: what predicting needs beside the graph and its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: int
    graph: GraphOptions
    class_names: list[str]
    thresholds: list[float] | None  # of each label, where a text has any number of them
    text_encoder: Any  # TextEncoder checks its own state
    label_separator: str
    read_info: dict[str, Any] | None  # see ReadInfo.as_dict


@dataclass(frozen=True)
class OnnxModel(SingleModel):
    """An exported network in a session of ONNX Runtime."""

    text_encoder: TextEncoder
    class_names: tuple[str, ...]
    path: Path
    read_info: ReadInfo | None
    description: Description = field(repr=False)
    fitted_temperature: float  # in the graph
    session: onnxruntime.InferenceSession = field(repr=False)

    @property
    def cell(self) -> str:
        """The name of its cell: model.name."""
        return self.description.graph.cell

    @property
    def temperature(self) -> float:
        """What logits are divided by, so that probabilities are calibrated; 1.0: they are not."""
        return self.fitted_temperature

    @property
    def thresholds(self) -> np.ndarray | None:
        """Where a text has any number of labels, the threshold of each, float32 [classes]."""
        values = self.description.thresholds
        return None if values is None else np.array(values, np.float32)

    @property
    def label_separator(self) -> str:
        """What joins several labels in one cell of a table."""
        return self.description.label_separator

    def probabilities(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities, float32 [texts, classes], of one batch of ids, int64 [length].

        Those of a text do not depend on the other texts.
        """
        lengths = np.array([len(text) for text in texts], np.int64)
        tokens = np.full((len(texts), lengths.max()), PAD_ID, np.int64)
        for row, text in zip(tokens, texts, strict=True):
            row[: len(text)] = text
        inputs = {onnx_graph.TOKENS: tokens, onnx_graph.LENGTHS: lengths}
        (found,) = self.session.run([onnx_graph.PROBABILITIES], inputs)
        return found

    def __reduce__(self) -> NoReturn:
        """Raise a TypeError: a session of ONNX Runtime can be neither copied nor pickled."""
        raise TypeError(
            f"{self.path}: a model of an .onnx file cannot be copied or pickled; load it again"
        )

    def explain(self, text: str, label: str | None = None) -> NoReturn:
        """Raise a ConfigError, which says what to load to explain."""
        raise ConfigError(
            f"{self.path}: an .onnx file only predicts; to explain, load the run folder, or a "
            ".ckpt or .safetensors file"
        )


def load_onnx(path: str | Path, device: str = "cpu", threads: int = 1) -> OnnxModel:
    """Load an exported .onnx file, which may be untrusted: no other file is read.

    Args:
        path: the file.
        device: "auto" or "cpu".
        threads: that compute one batch.

    Raises:
        CheckpointError: there is no such file, or it is not one that `rnn-lab export` wrote, or it
            is damaged. The message says which, and names the path.
        ConfigError: another device.
    """
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device={device}: an .onnx file runs on the CPU. Choose from: auto, cpu")
    place = local_path(path)
    try:
        return parse_onnx(_read(place), place, threads)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def parse_onnx(content: bytes, path: Path, threads: int = 1) -> OnnxModel:
    """Return the network in the bytes of an .onnx file; `path` is not read.

    Raises:
        CheckpointError: see `load_onnx`. The message does not have the path.
    """
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        raise CheckpointError("truncated, or not an ONNX file") from None
    _check_safe(model)
    description, digest = _describe(model)
    graph = description.graph
    try:
        encoder = TextEncoder.from_state_dict(description.text_encoder)
    except RecursionError:
        raise CheckpointError("its vocabulary is nested too deeply") from None
    names, thresholds = tuple(description.class_names), description.thresholds
    sizes = graph.vocab_size, graph.num_classes
    if sizes != (encoder.vocab_size, len(set(names))) or len(names) != len(set(names)):
        raise CheckpointError(
            f"damaged: a network of {sizes[1]} classes and {sizes[0]} tokens with "
            f"{len(set(names))} class names and {encoder.vocab_size} tokens"
        )
    if (thresholds is not None) != graph.is_multilabel or (
        thresholds is not None
        and (
            len(thresholds) != len(names) or not np.isfinite(np.array(thresholds, np.float32)).all()
        )
    ):
        raise CheckpointError("damaged: its thresholds do not fit its classes")
    weights = _take_weights(model, graph)
    (metadata,) = model.metadata_props
    if model != build_model(graph, metadata.value):
        raise CheckpointError("refused: has another graph than rnn-lab export writes")
    if digest != content_digest(weights, json.loads(metadata.value)):
        raise CheckpointError("damaged: its checksum does not match")
    # In float64, the sum of finite float32 numbers is finite.
    if not all(np.isfinite(weight.sum(dtype=np.float64)) for weight in weights.values()):
        raise CheckpointError("its weights are not finite numbers; the training diverged")
    if not (temperature := float(weights["temperature"])) > 0:
        raise CheckpointError("damaged: its temperature is not positive")
    info = description.read_info
    return OnnxModel(
        text_encoder=encoder,
        class_names=names,
        path=path,
        read_info=None if info is None else ReadInfo.from_dict(info),
        description=description,
        fitted_temperature=temperature,
        session=_session(content, threads),
    )


def content_digest(weights: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of a file's content, to detect damage; it proves no origin."""
    described = {name: value for name, value in description.items() if name != _DIGEST}
    found = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, weight in weights.items():
        found.update(f"{name} {list(weight.shape)}".encode())
        found.update(np.ascontiguousarray(weight).data)
    return found.hexdigest()


def describe(description: Description, weights: Mapping[str, np.ndarray]) -> str:
    """Return a file's metadata for `parse_onnx`."""
    content = description.model_dump()
    return json.dumps(content | {_DIGEST: content_digest(weights, content)})


def _read(path: Path) -> bytes:
    try:
        with open_untrusted(path, MAX_BYTES) as file:
            return file.read()
    except FileNotFoundError:
        raise CheckpointError("no such file") from None
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from None


def _check_safe(model: onnx.ModelProto) -> None:
    """Refuse what no export writes and a reader of ONNX could act on, each by its name."""
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
            places = {entry.key: entry.value for entry in tensor.external_data}
            place = sanitize(places.get("location", "no file"), 100)
            raise CheckpointError(f"refused: reads weights from another file ({place})")
    if model.functions:
        raise CheckpointError("refused: defines functions of its own")
    for node in _nodes(model.graph):
        if node.domain not in ("", "ai.onnx") or node.op_type not in _OPERATORS:
            name = f"{node.domain}::{node.op_type}".removeprefix("::")
            raise CheckpointError(
                f"refused: has the operator {sanitize(name, 100)}, which no export writes"
            )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes, also those of graphs within nodes."""
    graphs = [graph]
    while graphs:
        for node in graphs.pop().node:
            yield node
            for attribute in node.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else []
                graphs += attribute.graphs


def is_ours(path: Path) -> bool:
    """Return whether an export wrote a file; nothing but its metadata is believed."""
    try:
        model = onnx.ModelProto.FromString(_read(path))
    except (CheckpointError, DecodeError):
        return False
    return any(entry.key == METADATA_KEY for entry in model.metadata_props)


def _describe(model: onnx.ModelProto) -> tuple[Description, Any]:
    """Return the description in a file's metadata, and the checksum beside it."""
    metadata = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    try:
        found = json.loads(metadata[0]) if len(model.metadata_props) == len(metadata) == 1 else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"has no description of a run under {METADATA_KEY!r} in its metadata")
    if mismatch := schema_mismatch(found.get(SCHEMA_KEY)):
        raise CheckpointError(mismatch)
    digest = found.pop(_DIGEST, None)
    try:
        return Description.model_validate(found), digest
    except (ValidationError, RecursionError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else "nested too deeply"
        raise CheckpointError(f"its description of the run is damaged: {reason}") from None


def _take_weights(model: onnx.ModelProto, options: GraphOptions) -> dict[str, np.ndarray]:
    """Return the weights by name; their data is removed from the model."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    if options.num_layers > len(tensors):
        raise CheckpointError("damaged: fewer weights than layers")
    found = {}
    for name, shape in weight_shapes(options):
        tensor = tensors.get(name)
        size = 4 * int(np.prod(shape, dtype=object))
        if (
            tensor is None
            or tuple(tensor.dims) != shape
            or tensor.data_type != onnx.TensorProto.FLOAT
            or len(raw := tensor.raw_data) != size
        ):
            raise CheckpointError(f"its weights do not fit its network: {name}")
        found[name] = np.frombuffer(raw, np.dtype("<f4")).reshape(shape)
        tensor.ClearField("raw_data")
    return found


def _session(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; warnings are of no use to the user
    # Idle threads would spin on the cores that other processes need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
