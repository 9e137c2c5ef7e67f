import dataclasses
import io
import os
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.torch_version import TorchVersion

from rnn_lab.data.sources.text_files import FilesConfig
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.inference.load import load_model
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.runs.run_folder import find_checkpoint
from tests.inference.untrained import untrained_run
from tests.io.test_safe_load import Attack


@pytest.fixture
def state(mood_run):
    """The content of a real checkpoint, to be spoilt."""
    return torch.load(mood_run / "checkpoints" / "best.ckpt", weights_only=True)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as refusal:
        load_model(str(path))
    message = str(refusal.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_run_folder_means_its_best_checkpoint_and_otherwise_its_last(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"looked for .*best\.ckpt and last\.ckpt"):
        find_checkpoint(str(tmp_path))
    (folder / "last.ckpt").touch()
    assert find_checkpoint(str(tmp_path)) == folder / "last.ckpt"
    (folder / "best.ckpt").touch()
    assert find_checkpoint(str(tmp_path)) == folder / "best.ckpt"
    assert find_checkpoint(str(folder / "last.ckpt")) == folder / "last.ckpt"
    with pytest.raises(CheckpointError, match="no such run folder"):
        find_checkpoint(str(tmp_path / "nowhere"))


def test_gives_the_logits_of_the_module_that_was_trained(mood_run, state):
    trained = TextClassifier(**state["hyper_parameters"])
    trained.load_state_dict(state["state_dict"])
    trained.eval()
    tokens = torch.randint(2, 12, (5, 9), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9, 1, 4, 9, 2])

    run = load_model(str(mood_run))

    assert not run.model.training
    assert torch.equal(run.model(tokens, lengths), trained(tokens, lengths))
    assert run.class_names == ("bad", "good", "so so")
    assert run.path == mood_run / "checkpoints" / "best.ckpt"


def test_reset_gate_is_applied_where_it_was_trained(mood_run, state, tmp_path):
    options = state["hyper_parameters"]["model"]
    tokens, lengths = torch.arange(2, 11).view(1, 9), torch.tensor([9])
    logits = {}
    for reset in ("before", "after", None):
        options |= {"reset_after": reset == "after"}
        if reset is None:  # the default
            del options["reset_after"]
        path = tmp_path / f"{reset}.ckpt"
        torch.save(state, path)
        logits[reset] = load_model(str(path)).model(tokens, lengths)
        trained = TextClassifier(**state["hyper_parameters"])
        trained.load_state_dict(state["state_dict"])
        assert torch.equal(logits[reset], trained.eval()(tokens, lengths))
    assert torch.equal(logits[None], load_model(str(mood_run)).model(tokens, lengths))
    assert torch.equal(logits[None], logits["after"])
    assert not torch.equal(logits["before"], logits["after"])


def test_a_checkpoint_without_options_of_losses(tmp_path, mood_run, state):
    del state["hyper_parameters"]["loss"]
    torch.save(state, tmp_path / "older.ckpt")
    found, other = load_model(str(tmp_path / "older.ckpt")), load_model(str(mood_run))
    tokens, lengths = torch.tensor([[2, 3]]), torch.tensor([2])
    assert torch.equal(found.model(tokens, lengths), other.model(tokens, lengths))


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.999])
def test_a_file_cut_off(tmp_path, mood_run, kept):
    whole = (mood_run / "checkpoints" / "best.ckpt").read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    refused(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_bytes_never_raise_anything_else(mood_run, tmp_path_factory, data):
    content = bytearray((mood_run / "checkpoints" / "best.ckpt").read_bytes())
    # The pickle that holds the structure comes first.
    position = data.draw(st.one_of(st.integers(0, 5000), st.integers(0, len(content) - 1)))
    content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.ckpt"
    path.write_bytes(content)
    try:
        load_model(str(path))
    except CheckpointError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("container", ["zip", "legacy", "plain pickle"])
@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "callbacks"])
def test_code_in_a_pickle_is_not_run(tmp_path, state, container, place):
    marker, path = tmp_path / "marker", tmp_path / "attack.ckpt"
    state[place] = Attack(marker)
    if container == "plain pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=container == "zip")
    message = refused(path)
    assert not marker.exists()
    if container == "zip":
        assert "refused: it would run posix.system" in message
        torch.load(path, weights_only=False)  # the attack is a real one
        assert marker.exists()


@pytest.mark.parametrize(
    "planted",
    [
        {"_instantiator": "tests.inference.planted.instantiate"},
        {"_target_": "tests.inference.planted.instantiate"},
        {"model": {"name": "gru", "_target_": "tests.inference.planted.instantiate"}},
        {"_class_path": "tests.inference.planted.Model"},
    ],
)
def test_a_name_to_import_is_not_imported(tmp_path, state, planted):
    state["hyper_parameters"] |= planted
    path = tmp_path / "planted.ckpt"
    torch.save(state, path)
    assert "not permitted" in refused(path)
    assert not [name for name in sys.modules if "planted" in name]


def change(*keys):
    """A change of one value, deep inside the checkpoint."""

    def spoil(state, value):
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "value", "said"),
    [
        (change("hyper_parameters", "model", "hidden_size"), 17, "do not fit"),
        (change("hyper_parameters", "model", "hidden_size"), 10**15, "do not fit"),
        (change("hyper_parameters", "model", "hidden_size"), 10**40, "do not fit"),
        (change("hyper_parameters", "model", "num_layers"), 10**12, "fewer weights than layers"),
        (change("hyper_parameters", "model", "name"), "lstm", "only model=gru has this option"),
        (
            change("hyper_parameters", "model"),
            {"name": "lstm", "embedding_dim": 16, "hidden_size": 16},
            "do not fit",
        ),
        (
            change("hyper_parameters", "model", "name"),
            "transformer",
            "needs the plugin that defines model.name=transformer; load it with plugins=[<its mod",
        ),
        (change("hyper_parameters", "vocab_size"), -5, "vocab_size"),
        (change("hyper_parameters", "vocab_size"), 10**6, "tokens with 3 class names"),
        (change("hyper_parameters", "num_classes"), 4, "4 classes"),
        (change("hyper_parameters"), [1, 2], "not a complete"),
        (change("state_dict", "classifier.linear.bias"), torch.zeros(3, 3), "do not fit"),
        (change("state_dict", "classifier.linear.bias"), torch.tensor([1, 2, 3]), "plain float32"),
        (change("state_dict", "classifier.linear.bias"), "zeros", "not a complete"),
        (change("state_dict", "classifier.linear.bias"), torch.tensor([0, 1, torch.nan]), "finite"),
        (change("state_dict", "classifier.extra"), torch.zeros(3), "do not fit"),
        (change("state_dict"), {}, "fewer weights"),
        (change("state_dict"), None, "not a complete"),
        (change("TextDataModule", "class_names"), ["bad", "good"], "2 class names"),
        (change("TextDataModule", "class_names"), ["bad", "good", "good"], "2 class names"),
        (change("TextDataModule", "class_names"), 5, "not a complete"),
        (change("TextDataModule", "text_encoder"), {"vocabulary": 3}, "text encoder"),
        (change("TextDataModule", "config", "source"), 5, "source"),
        (change("TextDataModule", "config"), {"source": "ftp", "batch_size": -1}, "batch_size"),
        (change("TextDataModule", "config"), {"source": "ftp", "label_separator": 1}, "separator"),
        (change("TextDataModule", "config"), {"source": "ftp", "size": torch.ones(2)}, "size"),
        (change("hyper_parameters", "scheduler"), None, "scheduler"),
        (change("hyper_parameters", "optimizer"), {"lr": torch.ones(2)}, "optimizer.lr"),
        (change("TextDataModule"), None, "not a complete checkpoint of train.py"),
    ],
)
def test_parts_that_do_not_fit(tmp_path, state, spoil, value, said):
    spoil(state, value)
    path = tmp_path / "spoilt.ckpt"
    torch.save(state, path)
    assert said in refused(path)


def test_a_tensor_larger_than_its_bytes(tmp_path, state):
    """Four bytes stretched over a network of terabytes, which would be filled when it is used."""
    size = 10**12
    state["hyper_parameters"]["model"]["embedding_dim"] = size
    weights = state["state_dict"]
    for name in ("embedding.weight", "recurrent.weight_ih_l0"):
        rows = weights[f"classifier.{name}"].shape[0]
        weights[f"classifier.{name}"] = torch.zeros(1, 1).expand(rows, size)
    path = tmp_path / "stretched.ckpt"
    torch.save(state, path)
    assert "larger than its bytes" in refused(path)


def test_a_zip_bomb(tmp_path, mood_run):
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(mood_run / "checkpoints" / "best.ckpt") as source,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
        target.writestr("best/data/99", bytes(10**8))
    path = tmp_path / "bomb.ckpt"
    path.write_bytes(bomb.getvalue())
    assert path.stat().st_size < 10**6
    assert "compressed" in refused(path)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (1, "has schema_version 1; "),
        (2, "has schema_version 2; "),
        (4, "has schema_version 4; "),
        (None, "has no schema_version; "),
    ],
)
def test_a_checkpoint_of_another_schema_version_is_refused_by_its_number(
    tmp_path, state, version, said
):
    assert state["schema_version"] == 3
    state["schema_version"] = version
    if version is None:
        del state["schema_version"]
    state["hyper_parameters"]["reset"] = "an option of that time"
    path = tmp_path / "other.ckpt"
    torch.save(state, path)
    assert f"{said}this version of rnn-lab reads schema_version 3" in refused(path)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module that nothing may import; its name."""
    (tmp_path / "planted_plugin.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield "planted_plugin"
    assert "planted_plugin" not in sys.modules


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change("hyper_parameters", "model", "name"), "model.name=planted_plugin; load it with"),
        (change("hyper_parameters", "model", "pooling"), "model.pooling=planted_plugin; load it"),
        (change("TextDataModule", "config", "tokenizer"), "a tokenizer of your own also needs"),
        (change("TextDataModule", "text_encoder", "tokenizer"), "data.tokenizer=planted_plugin; "),
    ],
    ids=["cell", "pooling", "tokenizer", "vocabulary"],
)
def test_an_unknown_name_is_not_imported_and_a_plugin_is_suggested(
    tmp_path, state, planted, spoil, said
):
    """The name of a module that would register it, were it imported."""
    spoil(state, planted)
    path = tmp_path / "unknown.ckpt"
    torch.save(state, path)
    message = refused(path)
    assert said in message
    assert "plugins=[<its module>]" in message
    assert message.count("plugins=") == 1


@pytest.mark.parametrize(
    ("config", "modules"),
    [
        (
            "seed: 1\nplugins:\n- planted_plugin\n- my.parts\nmetrics: {}\n",
            "planted_plugin,my.parts",
        ),
        ("plugins: []\n", None),
        ("plugins: planted_plugin\n", None),
        ("model:\n  plugins:\n  - planted_plugin\n", None),
        ("plugins:\n- '\x1b[31m'\n- ../x\n", None),
        ("plugins: !!python/object/apply:os.mkdir [ran]\n", None),
        ("plugins:\n- !!python/object/apply:os.mkdir [ran]\n", None),
        ("a: &a [1]\nb: &b [*a, *a]\nplugins: [*b, *b]\n", None),
        ("[" * 100_000, None),
        (b"plugins:\n- \xff\n", None),
        ("", None),
        (None, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_the_config_beside_a_checkpoint_names_the_modules(
    tmp_path, state, planted, config, modules
):
    checkpoint, file = (tmp_path / name for name in ("checkpoints/best.ckpt", ".hydra/config.yaml"))
    for path in (checkpoint, file):
        path.parent.mkdir()
    state["hyper_parameters"]["model"] |= {"name": "leaky", "pooling": "ends"}
    torch.save(state, checkpoint)
    if config is None:
        os.mkfifo(file)
    else:
        file.write_bytes(config if isinstance(config, bytes) else config.encode())
    assert refused(checkpoint) == (
        f"{checkpoint}: needs the plugin that defines model.name=leaky and model.pooling=ends; "
        f"load it with plugins=[{modules or '<its module>'}]"
    )
    assert not Path("ran").exists()


def test_an_unknown_source_is_not_imported_and_its_options_are_kept(
    tmp_path, mood_run, state, planted
):
    state["TextDataModule"]["config"] |= {
        **{"source": planted, "val_split": "by_author", "unlabelled": True},
        **{"label_separator": "|", "_target_": "tests.inference.planted.instantiate"},
    }
    state["hyper_parameters"]["scheduler"] = {"name": planted, "drops": 3}
    state["hyper_parameters"]["optimizer"] = {"name": planted, "betas": (0.9, 0.95)}
    torch.save(state, tmp_path / "unknown.ckpt")
    found, other = load_model(tmp_path / "unknown.ckpt"), load_model(mood_run)
    tokens, lengths = torch.tensor([[2, 3]]), torch.tensor([2])
    assert torch.equal(found.model(tokens, lengths), other.model(tokens, lengths))
    assert found.data_config.source == planted
    assert found.data_config.batch_size == other.data_config.batch_size
    assert found.label_separator == "|"
    assert not [name for name in sys.modules if "planted" in name]


@pytest.mark.parametrize(
    "place",
    [(), ("hyper_parameters",), ("hyper_parameters", "model"), ("TextDataModule", "config")],
    ids=str,
)
def test_the_plugins_that_a_file_names_are_not_imported(tmp_path, state, planted, place):
    part = state
    for key in place:
        part = part[key]
    part["plugins"] = [planted]
    path = tmp_path / "planted.ckpt"
    torch.save(state, path)
    if place:
        assert "not permitted" in refused(path)
    else:  # a part of the checkpoint that nothing reads
        load_model(str(path))


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"epoch": 3}, [1, 2], torch.zeros(3)])
def test_the_checkpoint_of_another_program(tmp_path, content):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    assert "not a complete checkpoint of train.py" in refused(path)


@pytest.mark.parametrize(
    ("version", "safe"), [("2.3.1", False), ("2.9.1", False), ("2.10.0", True)]
)
def test_a_torch_that_a_file_can_make_run_code_reads_none(mood_run, monkeypatch, version, safe):
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    if safe:
        assert load_model(str(mood_run)).class_names == ("bad", "good", "so so")
    else:
        assert f"not read by torch {version}: before 2.10 " in refused(mood_run)


def test_a_run_of_torchtext_is_read_without_it(tmp_path, mood_run, state):
    state["TextDataModule"]["text_encoder"]["tokenizer"] = "torchtext"
    state["TextDataModule"]["config"]["tokenizer"] = "torchtext"
    torch.save(state, tmp_path / "torchtext.ckpt")
    theirs, ours = load_model(str(tmp_path / "torchtext.ckpt")), load_model(str(mood_run))
    assert theirs.text_encoder.fingerprint == ours.text_encoder.fingerprint
    text = "The film, was LOVELY; then awful"
    assert theirs.text_encoder.encode(text).tolist() == ours.text_encoder.encode(text).tolist()
    assert theirs.data_config.tokenizer == "torchtext"


def test_a_device_that_is_not_here(mood_run):
    if not torch.backends.mps.is_available():
        with pytest.raises(ConfigError, match=r"device=mps.*auto, .*cpu"):
            load_model(str(mood_run), "mps")


@pytest.mark.parametrize(("separator", "joins"), [(None, ";"), ("list", ";"), ("pipe", "|")])
def test_labels_in_one_cell_are_joined_as_in_the_training_texts(separator, joins):
    options = FilesConfig(source="files", train_path="a.csv", label_separator=separator)
    run = dataclasses.replace(untrained_run(task="multilabel"), data_config=options)
    assert run.label_separator == joins
