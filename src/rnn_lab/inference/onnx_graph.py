"""The network as an ONNX graph, made by hand of ONNX's own LSTM, GRU and RNN operators.

torch's exporter unrolls some layers and freezes the length at which it reads a sequence backwards.
These operators take `sequence_lens`, so batch and time stay free. Each value is named by what it
is; weights keep the layout of their operator, which `network_weights` makes of torch's.

The graph depends on its options alone, so a reader of an untrusted file builds it again and
compares: see `onnx_model.py`. This module imports onnx, and not torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from rnn_lab.data.corpus import Task
from rnn_lab.models.ngram_constants import FACTOR, FIRST_WORD, PRIME, SCALE
from rnn_lab.models.registry import POOLED_PARTS

OPSET, IR_VERSION = 18, 8  # of ONNX 1.13, which ONNX Runtime 1.14 and later read
TOKENS, LENGTHS, PROBABILITIES = "tokens", "lengths", "probabilities"  # inputs and the output
METADATA_KEY = "rnn-lab"  # of the model's metadata: JSON that describes the run

_TINY = float(np.finfo(np.float32).tiny)
_LOWEST = float(np.finfo(np.float32).min)

# Gates of a cell of ONNX: where each block of rows is in the weights of this project.
_OPERATORS = {"rnn": "RNN", "lstm": "LSTM", "peephole_lstm": "LSTM", "gru": "GRU"}
_GATES: dict[str, tuple[int, ...]] = {
    "rnn": (0,),
    "lstm": (0, 3, 1, 2),  # input, output, forget, candidate of input, forget, candidate, output
    "peephole_lstm": (0, 3, 1, 2),
    "gru": (1, 0, 2),  # update, reset, candidate of reset, update, candidate
}
_PEEPHOLES = (0, 2, 1)  # input, output, forget of input, forget, output
_SCANNED = {"mingru": 2, "minlstm": 3}  # cells without an operator, and their gates

CELLS = (*_OPERATORS, *_SCANNED)
POOLINGS = tuple(POOLED_PARTS)


class GraphOptions(BaseModel):
    """What decides the graph and the shapes of its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    cell: Literal["rnn", "lstm", "gru", "peephole_lstm", "mingru", "minlstm"]
    reset_after: bool = True  # of the GRU
    num_layers: PositiveInt
    bidirectional: bool
    pooling: Literal["last", "mean", "max", "max_mean", "last_max_mean"]
    ngrams: int = Field(ge=0, le=5)
    ngram_buckets: PositiveInt
    vocab_size: PositiveInt
    embedding_dim: PositiveInt
    hidden_size: PositiveInt
    num_classes: int = Field(ge=2)
    task: Task

    @model_validator(mode="after")
    def _products_fit(self) -> Self:
        """Keep the keys of n-grams, and the shapes of weights, below 2**63."""
        sizes = (self.vocab_size, self.embedding_dim, self.hidden_size, self.num_classes)
        if max(*sizes, self.num_layers, self.ngram_buckets) > 2**31 - 1:
            raise ValueError("a size is above 2147483647")
        return self

    @property
    def is_multilabel(self) -> bool:
        """Whether a text has any number of labels, not one."""
        return self.task == "multilabel"

    @property
    def directions(self) -> int:
        """1, or 2 if each layer also reads from the end."""
        return 1 + self.bidirectional


def weight_shapes(options: GraphOptions) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of each float32 weight of the graph."""
    hidden, directions = options.hidden_size, options.directions
    yield "embedding", (options.vocab_size, options.embedding_dim)
    for layer in range(options.num_layers):
        features = options.embedding_dim if layer == 0 else hidden * directions
        if options.cell in _SCANNED:
            rows = _SCANNED[options.cell] * hidden
            yield f"W{layer}", (directions, features, rows)
            yield f"B{layer}", (directions, rows)
            continue
        rows = len(_GATES[options.cell]) * hidden
        yield f"W{layer}", (directions, rows, features)
        yield f"R{layer}", (directions, rows, hidden)
        yield f"B{layer}", (directions, 2 * rows)
        if options.cell == "peephole_lstm":
            yield f"P{layer}", (directions, 3 * hidden)
    pooled = len(POOLED_PARTS[options.pooling]) * hidden * directions
    yield "linear.weight", (options.num_classes, pooled)
    yield "linear.bias", (options.num_classes,)
    yield "temperature", ()
    if options.ngrams:
        yield "ngrams.weight", (options.ngram_buckets, options.num_classes)
        yield "ngrams.importance", (options.ngram_buckets,)


def network_weights(
    options: GraphOptions, state: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the weights of the graph by name, made of a RecurrentClassifier's.

    Args:
        options: of the graph.
        state: the classifier's state_dict as float32 arrays, and `ngrams.importance` [buckets].
    """
    found = {
        "embedding": state["embedding.weight"],
        "linear.weight": state["linear.weight"],
        "linear.bias": state["linear.bias"],
        "temperature": state["temperature"],
    }
    for layer in range(options.num_layers):
        ends = ("", "_reverse")[: options.directions]
        per_end = [
            _direction({
                name.removesuffix(suffix): weight
                for name, weight in _recurrent(state).items()
                if name.endswith(suffix := f"_l{layer}{end}")
            }, options)
            for end in ends
        ]  # fmt: skip
        for name in per_end[0]:
            found[f"{name}{layer}"] = np.stack([weights[name] for weights in per_end])
    if options.ngrams:
        found |= {name: state[name] for name in ("ngrams.weight", "ngrams.importance")}
    return {name: found[name] for name, _ in weight_shapes(options)}


def _recurrent(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = "recurrent."
    return {n.removeprefix(prefix): w for n, w in state.items() if n.startswith(prefix)}


def _direction(weights: Mapping[str, np.ndarray], options: GraphOptions) -> dict[str, np.ndarray]:
    """Return W, R, B and P of one direction of one layer as its operator has them."""
    if options.cell in _SCANNED:
        return {"W": weights["weight_ih"].T, "B": weights["bias_ih"]}
    gates = _GATES[options.cell]

    def reordered(weight: np.ndarray) -> np.ndarray:
        parts = np.split(weight, len(gates))
        if options.cell == "gru" and not options.reset_after:
            # ONNX's z is the share of the old state, here it is that of the new one, and
            # 1 - sigmoid(a) = sigmoid(-a).
            parts[1] = -parts[1]
        return np.concatenate([parts[gate] for gate in gates])

    found = {
        "W": reordered(weights["weight_ih"]),
        "R": reordered(weights["weight_hh"]),
        "B": np.concatenate([reordered(weights["bias_ih"]), reordered(weights["bias_hh"])]),
    }
    if "peephole" in weights:
        parts = np.split(weights["peephole"], 3)
        found["P"] = np.concatenate([parts[gate] for gate in _PEEPHOLES])
    return found


def build_model(options: GraphOptions, description: str) -> onnx.ModelProto:
    """Return the model: tokens int64 [batch, time], lengths int64 [batch] -> probabilities.

    Tokens are padded on the right, by any id. Probabilities are float32 [batch, classes]. The
    weights, `graph.initializer`, have names and shapes, but no `raw_data` yet.

    Args:
        options: of the graph.
        description: the value of METADATA_KEY.
    """
    nodes = _Network(options).nodes
    graph = helper.make_graph(
        nodes,
        "RecurrentClassifier",
        [
            helper.make_tensor_value_info(TOKENS, TensorProto.INT64, ["batch", "time"]),
            helper.make_tensor_value_info(LENGTHS, TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info(
                PROBABILITIES, TensorProto.FLOAT, ["batch", options.num_classes]
            )
        ],
        [
            TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
            for name, shape in weight_shapes(options)
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="rnn-lab",
    )
    helper.set_model_props(model, {METADATA_KEY: description})
    return model


class _Nodes:
    """Nodes of a graph, in the order of computation."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def add(
        self, operator: str, inputs: Sequence[str], output: str | Sequence[str] = "", **options: Any
    ) -> str:
        """Add a node and return the name of its first output."""
        outputs = [output] if isinstance(output, str) else list(output)
        outputs[0] = outputs[0] or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, **options))
        return outputs[0]

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Add a constant."""
        return self.add("Constant", [], value=numpy_helper.from_array(np.array(value, dtype)))


class _Network(_Nodes):
    """The nodes of a classifier."""

    def __init__(self, options: GraphOptions) -> None:
        super().__init__()
        self.options = options
        shape = self.add("Shape", [TOKENS])
        self.batch = self.add("Slice", [shape, self.constant([0]), self.constant([1])], "batch")
        time = self.add("Gather", [shape, self.constant(1)], "time")
        steps = self.add("Range", [self.constant(0), time, self.constant(1)], "steps")
        # [batch, time] and [time, batch, 1]: whether a step is one of its text.
        last = self.add("Unsqueeze", [LENGTHS, self.constant([1])])
        self.real = self.add("Less", [steps, last], "real")
        by_time = self.add("Transpose", [self.real], perm=[1, 0])
        self.real_steps = self.add("Unsqueeze", [by_time, self.constant([2])], "real_steps")
        logits = self._recurrent_logits()
        if options.ngrams:
            logits = self.add("Add", [logits, self._ngram_logits()], "logits")
        logits = self.add("Div", [logits, "temperature"], "calibrated_logits")
        if options.is_multilabel:
            self.add("Sigmoid", [logits], PROBABILITIES)
        else:
            self.add("Softmax", [logits], PROBABILITIES, axis=1)

    def _recurrent_logits(self) -> str:
        """Embedding, layers, pooling and linear layer: [batch, classes]."""
        ids = self.add("Transpose", [TOKENS], perm=[1, 0])
        outputs = self.add("Gather", ["embedding", ids], "embedded")  # [time, batch, features]
        layer = self._scanned if self.options.cell in _SCANNED else self._by_operator
        for index in range(self.options.num_layers):
            outputs, last = layer(index, outputs)
        parts = [
            last if part == "last" else self._pool(outputs, part)
            for part in POOLED_PARTS[self.options.pooling]
        ]
        pooled = self.add("Concat", parts, axis=1) if len(parts) > 1 else parts[0]
        inputs = [pooled, "linear.weight", "linear.bias"]
        return self.add("Gemm", inputs, "recurrent_logits", transB=1)

    def _by_operator(self, index: int, inputs: str) -> tuple[str, str]:
        """Run a layer by its operator.

        Returns the outputs [time, batch, directions * hidden] and the state after each direction
        has read everything [batch, directions * hidden].
        """
        options = self.options
        lengths = self.add("Cast", [LENGTHS], to=TensorProto.INT32)
        weights = [f"{name}{index}" for name in "WRB"]
        arguments: dict[str, Any] = {"hidden_size": options.hidden_size}
        arguments["direction"] = "bidirectional" if options.bidirectional else "forward"
        others = [lengths]
        if options.cell == "gru":
            arguments["linear_before_reset"] = int(options.reset_after)
        if options.cell == "peephole_lstm":
            others += ["", "", f"P{index}"]
        names = [f"outputs{index}", f"state{index}"]
        operator = _OPERATORS[options.cell]
        self.add(operator, [inputs, *weights, *others], names, **arguments)
        # [time, directions, batch, hidden] and [directions, batch, hidden].
        outputs = self.add("Transpose", [names[0]], perm=[0, 2, 1, 3])
        last = self.add("Transpose", [names[1]], perm=[1, 0, 2])
        return (
            self.add("Reshape", [outputs, self.constant([0, 0, -1])]),
            self.add("Reshape", [last, self.constant([0, -1])]),
        )

    def _scanned(self, index: int, inputs: str) -> tuple[str, str]:
        """Run a layer whose state is h_t = a_t * h_{t-1} + b_t, as `_by_operator` does.

        Beyond the end of a text a_t is 1 and b_t is 0, so that its state stays.
        """
        size = self.constant([self.options.hidden_size])
        shape = self.add("Concat", [self.batch, size], axis=0)
        start = self.add("ConstantOfShape", [shape])  # zeros [batch, hidden]
        one, zero = self.constant(1, np.float32), self.constant(0, np.float32)
        outputs, finals = [], []
        for end in range(self.options.directions):
            direction = self.constant(end)
            x = self._reversed(inputs) if end else inputs
            product = self.add("MatMul", [x, self.add("Gather", [f"W{index}", direction])])
            gates = self.add("Add", [product, self.add("Gather", [f"B{index}", direction])])
            keep, new = self._linear_step(gates)
            keep = self.add("Where", [self.real_steps, keep, one])
            new = self.add("Where", [self.real_steps, new, zero])
            names = [f"state{index}_{end}", f"outputs{index}_{end}"]
            self.add("Scan", [start, keep, new], names, body=_scan_body(), num_scan_inputs=2)
            finals.append(names[0])
            outputs.append(self._reversed(names[1]) if end else names[1])
        return self.add("Concat", outputs, axis=2), self.add("Concat", finals, axis=1)

    def _linear_step(self, gates: str) -> tuple[str, str]:
        """Return a_t and b_t of minGRU or minLSTM [time, batch, hidden] of its gates."""
        count = _SCANNED[self.options.cell]
        parts = [f"{gates}_{part}" for part in range(count)]
        self.add("Split", [gates], parts, axis=2, num_outputs=count)
        candidate = parts[-1]
        if self.options.cell == "mingru":
            share = self.add("Sigmoid", [parts[0]])
            keep = self.add("Sub", [self.constant(1, np.float32), share])
        else:  # f / (f + i) = sigmoid(log f - log i), with log sigmoid(x) = -softplus(-x)
            forget, enter = (self.add("Softplus", [self.add("Neg", [part])]) for part in parts[:2])
            difference = self.add("Sub", [enter, forget])
            keep = self.add("Sigmoid", [difference])
            share = self.add("Sigmoid", [self.add("Neg", [difference])])
        return keep, self.add("Mul", [share, candidate])

    def _reversed(self, values: str) -> str:
        """Reverse [time, batch, features] within the length of each text."""
        return self.add("ReverseSequence", [values, LENGTHS], time_axis=0, batch_axis=1)

    def _pool(self, outputs: str, part: str) -> str:
        """Return the mean or max, as `part` says, over real steps of [time, batch, features]."""
        is_mean = part == "mean"
        other = self.constant(0 if is_mean else _LOWEST, np.float32)
        real = self.add("Where", [self.real_steps, outputs, other])
        operator = "ReduceSum" if is_mean else "ReduceMax"
        pooled = self.add(operator, [real, self.constant([0])], keepdims=0)
        if not is_mean:
            return pooled
        lengths = self.add("Cast", [LENGTHS], to=TensorProto.FLOAT)
        return self.add("Div", [pooled, self.add("Unsqueeze", [lengths, self.constant([1])])])

    def _ngram_logits(self) -> str:
        """Return the logits [batch, classes] of NgramLinear, which documents the computation."""
        is_word = self.add("GreaterOrEqual", [TOKENS, self.constant(FIRST_WORD)])
        known = inside = self.add("And", [is_word, self.real])  # [batch, time]
        buckets, texts = self.constant(self.options.ngram_buckets), self.constant(0)
        hashes, keys = "", []
        for size in range(1, self.options.ngrams + 1):
            words = TOKENS
            if size > 1:  # from the n-grams of one word less that are not the last of their text
                inside = self.add("And", [self._cut_last(inside), self._skip(known, size - 1)])
                factor = self.add("Mul", [self._cut_last(hashes), self.constant(FACTOR)])
                words = self.add("Add", [factor, self._skip(TOKENS, size - 1)])
            total = self.add("Add", [words, self.constant(size)])
            hashes = self.add("Mod", [total, self.constant(PRIME)])
            places = self.add("Transpose", [self.add("NonZero", [inside])], perm=[1, 0])  # [n, 2]
            found = self.add("GatherND", [self.add("Mod", [hashes, buckets]), places])
            text = self.add("Gather", [places, texts], axis=1)
            keys.append(self.add("Add", [self.add("Mul", [text, buckets]), found]))
        every = self.add("Concat", keys, axis=0)
        distinct, times = "distinct_ngrams", "ngram_times"
        self.add("Unique", [every], [distinct, "", "", times], sorted=1)  # [m]
        text = self.add("Div", [distinct, buckets])
        bucket = self.add("Mod", [distinct, buckets])
        return self._tfidf_logits(text, bucket, times)

    def _tfidf_logits(self, text: str, bucket: str, times: str) -> str:
        """Return the logits of n-grams, each [m]: its text, its bucket, its occurrences."""
        logarithm = self.add("Log", [self.add("Cast", [times], to=TensorProto.FLOAT)])
        sublinear = self.add("Add", [logarithm, self.constant(1, np.float32)])
        values = self.add("Mul", [self.add("Gather", ["ngrams.importance", bucket]), sublinear])
        zeros = self.add("ConstantOfShape", [self.batch])
        inputs = [zeros, text, self.add("Mul", [values, values])]
        squares = self.add("ScatterElements", inputs, axis=0, reduction="add")
        norms = self.add("Max", [self.add("Sqrt", [squares]), self.constant(_TINY, np.float32)])
        unit = self.add("Div", [values, self.add("Gather", [norms, text])])
        scaled = self.add("Mul", [unit, self.constant(SCALE, np.float32)])
        rows = self.constant([1])
        column = self.add("Unsqueeze", [scaled, rows])
        summands = self.add("Mul", [self.add("Gather", ["ngrams.weight", bucket]), column])
        size = self.constant([self.options.num_classes])
        zeros = self.add("ConstantOfShape", [self.add("Concat", [self.batch, size], axis=0)])
        places = self.add("Unsqueeze", [text, rows])
        return self.add("ScatterND", [zeros, places, summands], "ngram_logits", reduction="add")

    def _cut_last(self, values: str) -> str:
        """Return [batch, time] without its last step."""
        ends = self.constant([0]), self.constant([-1]), self.constant([1])
        return self.add("Slice", [values, *ends])

    def _skip(self, values: str, steps: int) -> str:
        """Return [batch, time] without its first steps."""
        ends = self.constant([steps]), self.constant([np.iinfo(np.int64).max]), self.constant([1])
        return self.add("Slice", [values, *ends])


def _scan_body() -> onnx.GraphProto:
    """Return one step: h = keep * h_before + new, as state and as output."""
    body = _Nodes()
    kept = body.add("Mul", ["keep", "h_before"], "kept")
    body.add("Add", [kept, "new"], "h")
    body.add("Identity", ["h"], "output")

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None])

    inputs = [value(name) for name in ("h_before", "keep", "new")]
    return helper.make_graph(body.nodes, "step", inputs, [value("h"), value("output")])
