"""A network as one .safetensors file: the same answers, and nothing else in it is believed."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from rnn_lab.commands import export
from rnn_lab.errors import CheckpointError
from rnn_lab.inference.load import load_model
from rnn_lab.io.safetensors_file import digest, pack_safetensors
from tests.cli.forked import run_warm_command
from tests.inference.test_load import refused


@pytest.fixture(scope="module")
def exported(mood_run, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.safetensors"
    export([f"run={mood_run}", f"output={path}"])
    return path


def spoil(path: Path, to: Path, change) -> Path:
    """The file with its header as `change` makes it."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    about = json.loads(header["__metadata__"]["rnn-lab"])
    change(header, about)
    if "__metadata__" in header:
        about["sha256"] = digest(load_file(path), {k: about[k] for k in about if k != "sha256"})
        header["__metadata__"]["rnn-lab"] = json.dumps(about)
    text = json.dumps(header).encode()
    to.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    return to


def test_the_same_bits_as_the_checkpoint(mood_run, exported, tmp_path):
    theirs, ours = load_model(str(exported)), load_model(str(mood_run))
    weights = ours.model.state_dict()
    assert list(theirs.model.state_dict()) == list(weights)
    assert all(torch.equal(w, weights[name]) for name, w in theirs.model.state_dict().items())
    for name in ("class_names", "model_config", "data_config", "corpus_fingerprint"):
        assert getattr(theirs, name) == getattr(ours, name)
    assert theirs.text_encoder.fingerprint == ours.text_encoder.fingerprint
    assert load_file(exported).keys() == weights.keys()  # to others a plain file of weights
    export([f"run={exported}", f"output={tmp_path / 'again.safetensors'}"])
    assert (tmp_path / "again.safetensors").read_bytes() == exported.read_bytes()


def test_predict_gives_the_same_line_to_the_last_digit(mood_run, exported, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("the film was lovely\nawful\npassable music, then it ended\n")
    said = [
        run_warm_command("predict.py", f"run={run}", f"input={texts}", cwd=tmp_path)
        for run in (mood_run, exported)
    ]
    assert said[0].returncode == 0 and said[0].stdout.count("\n") == 3
    assert said[0].stdout == said[1].stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("run=a", "run=b"), "run: given twice"),
        (("run=",), "run=: no value given"),
        (("run=a", "plugins="), "plugins=: no value given"),
        (("run",), "run: expected name=value. Did you mean run? Choose from: output, overwri"),
        (("run=a", "ouput=b"), "ouput: no such option. Did you mean output? Choose from: output,"),
    ],
)
def test_a_malformed_argument_is_one_line(arguments, error, capsys):
    with pytest.raises(SystemExit):
        export(arguments)
    line = capsys.readouterr().err
    assert line.startswith(f"error: {error}") and line.count("\n") == 1


def test_help_is_shown_beside_other_arguments(capsys):
    export(["run=a", "--help"])
    assert capsys.readouterr().out.startswith("Write a trained run as one file")


def test_another_ending_is_refused(mood_run, capsys, tmp_path):
    with pytest.raises(SystemExit):
        export([f"run={mood_run}", f"output={tmp_path}/model.pt"])
    assert capsys.readouterr().err.startswith("error: output=")
    with pytest.raises(SystemExit):
        export([f"run={tmp_path}"])
    assert "no finished run" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mine.safetensors", "mine.onnx"])
def test_only_an_exported_file_is_replaced(mood_run, capsys, tmp_path, name):
    mine = tmp_path / name
    for content in (b"my notes", struct.pack("<Q", 2) + b"[]", b"\xff" * 40):
        mine.write_bytes(content)
        with pytest.raises(SystemExit):
            export([f"run={mood_run}", f"output={mine}"])
        assert capsys.readouterr().err == (
            f"error: output={mine}: exists and is not an exported file; choose another name\n"
        )
        assert mine.read_bytes() == content and list(tmp_path.iterdir()) == [mine]
    mine.unlink()
    for _ in range(2):
        export([f"run={mood_run}", f"output={mine}"])
    written = mine.read_bytes()
    run = load_model(str(mood_run))
    weights = run.model.state_dict()
    weights["linear.bias"] = weights["linear.bias"] + 1
    other = tmp_path / "other.safetensors"
    other.write_bytes(pack_safetensors(weights, run.about))
    with pytest.raises(SystemExit):
        export([f"run={other}", f"output={mine}"])
    assert "exists and is the export of another run, or of" in capsys.readouterr().err
    assert mine.read_bytes() == written
    export([f"run={other}", f"output={mine}", "overwrite=true"])
    assert mine.read_bytes() != written
    if mine.suffix == ".safetensors":
        save_file({"w": torch.zeros(3)}, mine)  # of another program
        with pytest.raises(SystemExit):
            export([f"run={mood_run}", f"output={mine}"])


def set_(*keys, value):
    def change(header, about):
        place = {"header": header, "about": about}
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


MODEL, DATA = ("about", "hyper_parameters", "model"), ("about", "TextDataModule")
CASES = {
    "target": (set_(*MODEL, "_target_", value="os.system"), "not permitted"),
    "instantiator": (
        set_("about", "hyper_parameters", "_instantiator", value="os.system"),
        "not permitted",
    ),
    "huge network": (set_(*MODEL, "hidden_size", value=10**9), "do not fit"),
    "another network": (set_(*MODEL, "name", value="lstm"), "only model=gru"),
    "classes": (set_(*DATA, "class_names", value=["a"]), "class names"),
    "vocabulary": (set_(*DATA, "text_encoder", "vocabulary", value=3), "vocabulary"),
    "plugins": (set_(*MODEL, "plugins", value=["os"]), "not permitted"),
    "cell": (
        set_(*MODEL, "name", value="planted"),
        "needs the plugin that defines model.name=plan",
    ),
    "old": (set_("about", "schema_version", value=1), "has schema_version 1; this version of"),
    "new": (set_("about", "schema_version", value=4), "reads schema_version 3"),
    "unversioned": (lambda header, about: about.pop("schema_version"), "has no schema_version; "),
    "more parts": (set_("about", "more", value=1), "no description of a run"),
    "no metadata": (lambda header, about: header.pop("__metadata__"), "no description of a run"),
    "huge tensor": (set_("header", "linear.bias", "shape", value=[10**9]), "cannot be read"),
    "outside": (set_("header", "linear.bias", "data_offsets", value=[0, 10**12]), "cannot be read"),
    "overlap": (set_("header", "linear.bias", "data_offsets", value=[0, 12]), "cannot be read"),
    "integers": (set_("header", "linear.bias", "dtype", value="I32"), "checksum"),
    "unknown type": (set_("header", "linear.bias", "dtype", value="X"), "cannot be read"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_refused(exported, tmp_path, case):
    change, said = CASES[case]
    assert said in refused(spoil(exported, tmp_path / "spoilt.safetensors", change))


def test_weights_without_a_description_and_what_is_no_such_file(exported, tmp_path, mood_run):
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(3)}, path)
    assert "no description of a run" in refused(path)
    save_file({"w": torch.zeros(3)}, path, metadata={"rnn-lab": "[" * 100_000})
    assert "cannot be read as safetensors" in refused(path)
    weights = load_file(exported) | {"linear.bias": torch.full((3,), torch.nan)}
    path.write_bytes(pack_safetensors(weights, load_model(str(exported)).about))
    assert "not finite" in refused(path)
    path.write_bytes((mood_run / "checkpoints" / "best.ckpt").read_bytes())
    assert "cannot be read as safetensors" in refused(path)
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    assert "cannot be read as safetensors" in refused(path)
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in refused(path)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_file_with_flipped_bytes_is_refused_or_the_same(exported, data):
    whole = bytearray(exported.read_bytes())
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    path = exported.with_name("flipped.safetensors")
    path.write_bytes(whole[: data.draw(st.sampled_from([len(whole), len(whole) // 2]))])
    try:
        found = load_model(str(path)).model.state_dict()
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert all(torch.equal(w, found[name]) for name, w in load_file(exported).items())
