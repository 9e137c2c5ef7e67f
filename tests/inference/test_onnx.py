"""Runs as .onnx files: the probabilities of the network without torch, and no file is trusted."""

import copy
import functools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import rnn_lab
from rnn_lab.commands import export
from rnn_lab.data.bpe import SubwordTokenizer
from rnn_lab.data.characters import ByteTokenizer, CharacterTokenizer
from rnn_lab.data.tokenizer_json import JsonTokenizer
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.inference import onnx_export
from rnn_lab.inference.batch_predict import classify
from rnn_lab.inference.load import LoadedModel, load_model
from rnn_lab.inference.onnx_export import export_onnx
from rnn_lab.inference.onnx_graph import CELLS, LENGTHS, POOLINGS, PROBABILITIES, TOKENS
from rnn_lab.inference.onnx_model import MAX_BYTES, content_digest, load_onnx, parse_onnx
from rnn_lab.inference.predict import predict
from rnn_lab.models.pooling import register_pooling
from rnn_lab.models.registry import POOLINGS as ALL_POOLINGS
from tests.cli.forked import run_warm_command
from tests.data.made import random_texts, word_piece
from tests.inference.untrained import untrained_run

TEXTS = ("a good film", "not bad at all , the film was good", "zzz", "", "film film bad not a film")


def network(**options: object) -> LoadedModel:
    """A run of random weights, those of the n-grams among them."""
    run = untrained_run(ngram_buckets=64, **options)
    if (wide := run.model.ngrams) is not None:
        with torch.no_grad():
            wide.weight.normal_(0, 0.2)
            wide.importance.copy_(torch.arange(64) % 4)  # 0: in no training text
    return run


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("cell", [*CELLS, "gru, reset before"])
def test_the_probabilities_are_those_of_the_network(cell, bidirectional):
    """For every text alone, and in a batch whose padding is of any id."""
    own = {"reset_after": False} if "before" in cell else {}
    rng = np.random.default_rng(0)
    lengths = np.array([1, 2, 9, 30, 9], np.int64)
    for position, pooling in enumerate(POOLINGS):
        layers = 1 + (position + bidirectional) % 2  # each pooling has both, in one direction each
        run = network(
            name=cell.partition(",")[0],
            num_layers=layers,
            bidirectional=bidirectional,
            pooling=pooling,
            ngrams=(0, 1, 3)[position % 3],
            task=("multiclass", "multilabel")[layers - 1],
            **own,
        )
        content, compared = export_onnx(run, TEXTS)
        assert compared.texts == len(TEXTS) + compared.random
        exported = parse_onnx(content, Path("model.onnx"))
        tokens = rng.integers(1, 13, (len(lengths), lengths.max()))
        texts = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
        alone = np.concatenate([run.probabilities([text]) for text in texts])
        (together,) = exported.session.run([PROBABILITIES], {TOKENS: tokens, LENGTHS: lengths})
        np.testing.assert_allclose(together, alone, atol=1e-5)
        one_by_one = [exported.probabilities([text])[0] for text in texts]
        np.testing.assert_allclose(one_by_one, alone, atol=1e-5)
        assert alone.std(axis=0).min() > 0.001  # texts differ


@pytest.mark.parametrize(
    "vocabulary",
    [
        CharacterTokenizer.train(random_texts(20), max_vocab_size=40, min_freq=1),
        SubwordTokenizer.train(random_texts(20), max_vocab_size=300, min_freq=1),
        JsonTokenizer(word_piece(["the", "film", "##s", "日"])),
        ByteTokenizer(),
    ],
    ids=lambda vocabulary: vocabulary.name,
)
@pytest.mark.parametrize("side", ["left", "middle", "right"])
def test_texts_are_encoded_and_cut_as_by_the_run(vocabulary, side):
    run = network(vocabulary=vocabulary, truncation_side=side, max_length=7, name="gru")
    exported = parse_onnx(export_onnx(run, TEXTS)[0], Path("model.onnx"))
    for text in (*TEXTS, "The FILMS were 日 long, and then some more"):
        np.testing.assert_array_equal(
            exported.text_encoder.encode(text), run.text_encoder.encode(text)
        )
    assert exported.text_encoder.fingerprint == run.text_encoder.fingerprint


def test_several_labels_are_predicted_at_the_thresholds_of_the_run():
    names = ("action", "drama", "wörld\ud800")
    run = network(task="multilabel", class_names=names)
    run.model.thresholds.copy_(torch.tensor([0.1, 0.7, 0.3]))
    exported = parse_onnx(export_onnx(run, TEXTS)[0], Path("model.onnx"))
    assert exported.task == "multilabel" and exported.class_names == names
    np.testing.assert_array_equal(exported.thresholds, run.thresholds)
    (row,) = exported.probabilities([run.text_encoder.encode(TEXTS[0])])
    assert exported.predicted(row) == run.predicted(row)


def test_a_file_that_differs_from_the_run_is_not_written(mood_run, tmp_path, monkeypatch, capsys):
    def wrong(*arguments):
        weights = right(*arguments)
        return weights | {"linear.bias": weights["linear.bias"] + 1e-2 * np.arange(3, dtype="f4")}

    right = onnx_export.network_weights
    monkeypatch.setattr(onnx_export, "network_weights", wrong)
    with pytest.raises(SystemExit):
        export([f"run={mood_run}", f"output={tmp_path}/model.onnx"])
    assert "other probabilities than the run, by up to" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_cell_or_pooling_of_a_plugin_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(ALL_POOLINGS, "_entries", dict(ALL_POOLINGS._entries))
    register_pooling("middle")(lambda outputs, lengths: outputs[:, 0])
    with pytest.raises(ConfigError, match=r"^model.pooling=middle: cannot be exported as .onnx, "):
        export_onnx(network(pooling="middle"), TEXTS)
    with pytest.raises(ConfigError, match=r"^model.pooling=attention: cannot be exported as .onnx"):
        export_onnx(network(pooling="attention"), TEXTS)
    run = network()
    monkeypatch.setattr(run.model.recurrent.cell, "name", "mine", raising=False)
    with pytest.raises(ConfigError, match=r"^model.name=mine: .* With an .onnx file: rnn, lstm, "):
        export_onnx(run, TEXTS)


# ---- Commands and the Python interface


@pytest.fixture(scope="module")
def exported(mood_run, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export([f"run={mood_run}", f"output={path}"])
    return path


def test_predict_gives_the_rows_of_the_run(mood_run, exported, tmp_path):
    texts = tmp_path / "texts.csv"
    texts.write_text('review,id\nthe film was lovely,a\nawful,b\n"passable, then it ended",c\n')
    rows = []
    for run in (mood_run, exported):
        output = tmp_path / f"{run.name}.jsonl"
        predict({"run": str(run), "input": str(texts), "output": str(output)})
        rows.append([json.loads(line) for line in output.read_text().splitlines()])
    theirs, ours = rows
    assert [row.pop("label") for row in ours] == [row.pop("label") for row in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.pop("probabilities") == pytest.approx(other.pop("probabilities"), abs=1e-5)
    assert ours == theirs and ours[0]["review"] == "the film was lovely"


def test_predict_and_load_import_neither_torch_nor_hydra(mood_run, exported):
    code = (
        "import sys, rnn_lab, rnn_lab.commands as commands\n"
        f"model = rnn_lab.load({str(exported)!r})\n"
        "print(model, model.predict(['lovely', 'awful'])[1].label, flush=True)\n"
        f"sys.argv = ['rnn-lab', 'predict', 'run={exported}', 'text=the film was lovely']\n"
        "commands.main()\n"
        "print('imported:', *{*sys.modules} & {'torch', 'lightning', 'pandas', 'hydra'})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=exported.parent
    )
    assert done.stderr == ""
    first, *printed, imported = done.stdout.splitlines()
    assert first == f"<rnn_lab.Model gru [bad, good, so so] {exported}> bad"
    assert imported == "imported:"
    text = "text=the film was lovely"
    theirs = run_warm_command("predict.py", f"run={mood_run}", text, cwd=exported.parent)
    assert printed == theirs.stdout.splitlines() and printed[0] == "good"


def test_an_onnx_file_only_predicts(exported, tmp_path, capsys):
    refusal = "an .onnx file only predicts; "
    with pytest.raises(ConfigError, match=refusal):
        rnn_lab.load(exported).explain("lovely")
    with pytest.raises(CheckpointError, match=refusal):  # of eval, explain and model.init_from
        load_model(exported)
    with pytest.raises(SystemExit):
        export([f"run={exported}", f"output={tmp_path}/again.onnx"])
    assert refusal in capsys.readouterr().err
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"\.onnx: a model of an \.onnx file cannot be copied"):
            copied(rnn_lab.load(exported))
    with pytest.raises(ConfigError, match=r"^device=cuda: an .onnx file runs on the CPU"):
        rnn_lab.load(exported, device="cuda")
    with pytest.raises(ConfigError, match=r"^precision=bf16-mixed: an .onnx file computes in"):
        predict({"run": str(exported), "text": "lovely", "precision": "bf16-mixed"})


def test_export_compares_with_the_texts_that_are_given(mood_run, mood_reviews, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    export([f"run={mood_run}", f"output={path}", f"texts={mood_reviews}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"exported to {path}"
    assert lines[1].startswith("compared with the run on 256 texts and 24 random sequences of ")
    assert lines[2:] == [f"model card: {path}.md"]
    with pytest.raises(SystemExit):
        export([f"run={mood_run}", f"output={path}", f"texts={tmp_path}/none.txt"])
    with pytest.raises(SystemExit):
        export([f"run={mood_run}", f"output={tmp_path}/a.safetensors", f"texts={mood_reviews}"])
    errors = capsys.readouterr().err.splitlines()
    assert "none.txt" in errors[0]
    assert errors[1].endswith("only an .onnx file is compared with the run")


def test_without_the_extra_one_line_names_it(mood_run, exported, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)  # as if it were not installed
    needs = "needs the package onnx, which is not installed; pip install 'onnx>=1.18,<2' "
    needs += "'onnxruntime>=1.20,<2'"
    with pytest.raises(ConfigError) as error:
        rnn_lab.load(exported)
    assert str(error.value) == f"run={exported}: {needs}"
    with pytest.raises(ConfigError) as error:
        predict({"run": str(exported), "text": "lovely"})
    assert str(error.value) == f"run={exported}: {needs}"
    with pytest.raises(SystemExit):
        export([f"run={mood_run}", "output=model.onnx"])
    assert capsys.readouterr().err == f"error: output=model.onnx: {needs}\n"


# ---- Untrusted files

Change = Callable[[onnx.ModelProto, dict], None]


@functools.cache
def small() -> bytes:
    """The content of a file."""
    return export_onnx(network(ngrams=2, bidirectional=True, num_layers=2), TEXTS)[0]


@pytest.fixture
def no_session(monkeypatch):
    """Fail if ONNX Runtime gets to see anything."""

    small()

    def session(*arguments, **options):
        raise AssertionError("ONNX Runtime has read it")

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)


def changed(change: Change) -> bytes:
    """The file as `change` makes it, with the right checksum where there can be one."""
    model = onnx.ModelProto.FromString(small())
    about = json.loads(model.metadata_props[0].value)
    change(model, about)
    weights = {w.name: np.frombuffer(w.raw_data, "f4") for w in model.graph.initializer}
    shapes = {w.name: tuple(w.dims) for w in model.graph.initializer}
    if all(np.prod(shapes[name]) == weights[name].size for name in weights):
        weights = {name: weights[name].reshape(shapes[name]) for name in weights}
        about["sha256"] = content_digest(weights, about)
    if len(model.metadata_props):
        model.metadata_props[0].value = json.dumps(about)
    return model.SerializeToString()


def test_the_unchanged_file_is_read():
    assert parse_onnx(changed(lambda model, about: None), Path("x")).cell == "lstm"


def external(model, about):
    weight = next(w for w in model.graph.initializer if w.name == "embedding")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")


def if_node(model, about):
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [], [])
    model.graph.node.append(
        helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch)
    )


def hidden_node(model, about):
    """An operator that is foreign to the graph, within the body of a Scan."""
    branch = helper.make_graph([helper.make_node("Loop", ["x"], ["y"])], "g", [], [])
    model.graph.node.append(helper.make_node("Scan", ["a"], ["b"], body=branch, num_scan_inputs=1))


def node(operator: str, **options) -> Change:
    return lambda model, about: model.graph.node.append(
        helper.make_node(operator, [TOKENS], ["more"], **options)
    )


def about_(*keys, value) -> Change:
    def change(model, about):
        for key in keys[:-1]:
            about = about[key]
        about[keys[-1]] = value

    return change


def function(model, about):
    model.functions.append(
        helper.make_function("mine", "f", [], [], [], [helper.make_opsetid("", 18)])
    )


def weight(**fields) -> Change:
    def change(model, about):
        for name, value in fields.items():
            found = model.graph.initializer[0]
            found.ClearField(name)
            if isinstance(value, list):
                getattr(found, name).extend(value)
            else:
                setattr(found, name, value)

    return change


def opset(model, about):
    model.opset_import[0].version = 17


def attribute(model, about):
    found = next(node for node in model.graph.node if node.op_type == "LSTM")
    found.attribute.append(helper.make_attribute("clip", 1.0))


CASES: dict[str, tuple[Change, str]] = {
    "external data": (external, "refused: reads weights from another file (/etc/passwd)"),
    "custom operator": (node("Evil", domain="mine"), "refused: has the operator mine::Evil, which"),
    "unused operator": (node("Tile"), "refused: has the operator Tile, which"),
    "branch": (if_node, "refused: has the operator If, which"),
    "hidden operator": (hidden_node, "refused: has the operator Loop, which"),
    "function": (function, "refused: defines functions of its own"),
    "another node": (node("Shape"), "refused: has another graph"),
    "attribute": (attribute, "refused: has another graph"),
    "opset": (opset, "refused: has another graph"),
    "initializer": (
        lambda model, about: model.graph.initializer.add(name="more", data_type=1, dims=[0]),
        "refused: has another graph",
    ),
    "input": (lambda model, about: model.graph.input.pop(), "refused: has another graph"),
    "no metadata": (
        lambda model, about: model.ClearField("metadata_props"),
        "has no description of a run under 'rnn-lab' in its metadata",
    ),
    "more metadata": (
        lambda model, about: model.metadata_props.add(key="a", value="b"),
        "has no description of a run",
    ),
    "old": (about_("schema_version", value=1), "has schema_version 1; this version of rnn-lab "),
    "unversioned": (lambda model, about: about.pop("schema_version"), "has no schema_version; "),
    "more parts": (about_("_target_", value="os.system"), "description of the run is damaged: _t"),
    "fewer parts": (lambda model, about: about.pop("graph"), "description of the run is damaged"),
    "cell": (about_("graph", "cell", value="gpt"), "description of the run is damaged: graph.cell"),
    "another cell": (about_("graph", "cell", value="gru"), "its weights do not fit its network"),
    "another pooling": (about_("graph", "pooling", value="max"), "refused: has another graph"),
    "layers": (about_("graph", "num_layers", value=2**31 - 1), "fewer weights than layers"),
    "huge layers": (about_("graph", "num_layers", value=10**12), "a size is above"),
    "huge network": (about_("graph", "hidden_size", value=10**9), "weights do not fit its network"),
    "classes": (about_("class_names", value=["a"]), "a network of 2 classes and 13 tokens with 1 "),
    "equal classes": (about_("class_names", value=["a", "b", "b"]), "with 2 class names"),
    "class type": (about_("class_names", value=[1, 2]), "description of the run is damaged: class"),
    "thresholds": (about_("thresholds", value=[0.5, 0.5]), "thresholds do not fit"),
    "vocabulary": (about_("text_encoder", "vocabulary", value=3), "text encoder: "),
    "length": (about_("text_encoder", "max_length", value=-1), "text encoder: max_length is -1"),
    "shape": (weight(dims=[13, 7]), "its weights do not fit its network: embedding"),
    "type": (weight(data_type=TensorProto.INT32), "its weights do not fit its network: embedding"),
    "short": (weight(raw_data=b"1234"), "its weights do not fit its network: embedding"),
    "two values": (weight(float_data=[1.0]), "refused: has another graph"),
    "not finite": (
        weight(raw_data=np.full(13 * 6, np.nan, "f4").tobytes()),
        "its weights are not finite numbers",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_no_export_writes_is_refused_before_onnx_runtime_reads_it(case, no_session):
    change, message = CASES[case]
    with pytest.raises(CheckpointError) as refusal:
        parse_onnx(changed(change), Path("x"))
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", ["[" * 100_000, "1", "{", '{"a":' * 50_000])
def test_metadata_that_is_no_description(value, no_session):
    model = onnx.ModelProto.FromString(small())
    model.metadata_props[0].value = value
    with pytest.raises(CheckpointError, match="no description of a run"):
        parse_onnx(model.SerializeToString(), Path("x"))


def test_damage_is_detected_by_the_checksum(no_session):
    model = onnx.ModelProto.FromString(small())
    raw = bytearray(model.graph.initializer[0].raw_data)
    raw[40] ^= 1
    model.graph.initializer[0].raw_data = bytes(raw)
    with pytest.raises(CheckpointError, match="damaged: its checksum does not match"):
        parse_onnx(model.SerializeToString(), Path("x"))


def test_what_is_no_onnx_file_is_refused_with_its_path(tmp_path, mood_run, no_session):
    path = tmp_path / "model.onnx"

    def refused() -> str:
        with pytest.raises(CheckpointError) as refusal:
            load_onnx(path)
        message = str(refusal.value)
        assert message.startswith(f"{path}: ") and "\n" not in message
        return message

    assert "no such file" in refused()
    for content in (b"the film was lovely", small()[:-1], small()[: len(small()) // 2]):
        path.write_bytes(content)
        assert "truncated, or not an ONNX file" in refused()
    path.write_bytes(b"")
    assert "no description of a run" in refused()
    path.write_bytes((mood_run / "checkpoints" / "best.ckpt").read_bytes())
    refused()
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse
    assert "larger than 2 GiB" in refused()
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in refused()
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "not a regular file" in refused()


def test_a_folder_whose_name_ends_like_a_file_is_a_run_folder(mood_run, tmp_path):
    folder = tmp_path / "run.onnx"
    folder.symlink_to(mood_run)
    assert rnn_lab.load(folder).class_names == ("bad", "good", "so so")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_file_with_flipped_bytes_is_refused_or_the_same(data):
    whole = bytearray(small())
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    content = bytes(whole[: data.draw(st.sampled_from([len(whole), len(whole) // 2]))])
    try:
        found = parse_onnx(content, Path("x"))
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        original = parse_onnx(small(), Path("x"))
        assert replace(found, session=None) == replace(original, session=None)
        ids = [original.text_encoder.encode(text) for text in TEXTS]
        np.testing.assert_array_equal(classify(found, ids, 2), classify(original, ids, 2))
