"""The folder of a sweep, a report or a cache that a stranger has made: nothing in it is run."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from src.data.mapped import open_array
from src.data.subwords import SubwordVocabulary
from src.data.text_encoder import TextEncoder
from src.errors import CheckpointError
from src.reports.run_files import read_result
from src.reports.sweep_options import read_config
from src.sweeps.folder import JobFolder
from src.sweeps.submitted import _new_folder
from src.training.config import RunConfig
from tests.doors.runner import open_door
from tests.test_torch_file import Attack

ALIASES = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 20)}]\n" for n in range(1, 20)
)


def test_a_config_of_aliases_is_not_unfolded(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text(ALIASES)
    with pytest.raises(CheckpointError, match=r"config\.yaml: .*alias"):
        read_config(tmp_path)


def test_a_config_that_would_make_objects_is_not_read(tmp_path):
    (tmp_path / "config").mkdir()
    marker = tmp_path / "marker"
    text = f"!!python/object/apply:os.system ['touch {marker}']"
    (tmp_path / "config" / "config.yaml").write_text(f"a: {text}\n_target_: os.abort\n")
    with pytest.raises(CheckpointError, match=r"config\.yaml"):
        read_config(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["pipe", "device", "deep", "huge"])
def test_a_result_that_no_run_writes_is_told_of_at_once(tmp_path, kind):
    path = tmp_path / "result.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "deep":
        path.write_text("[" * 200_000)
    else:
        with path.open("wb") as file:
            file.truncate(2**40)  # of nothing: it takes no disk
    with pytest.raises(CheckpointError, match=r"result\.json: "):
        read_result(tmp_path)
    assert JobFolder(tmp_path).read("result") == {}


def test_a_pickle_in_a_cache_is_not_read(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "values.npy"
    np.save(path, np.array([Attack(marker)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="object"):
        open_array(path)
    path.write_bytes(pickle.dumps(Attack(marker)))
    with pytest.raises(ValueError, match="pickled"):
        open_array(path)
    assert not marker.exists()


def test_the_results_of_launched_jobs_are_looked_for_where_nothing_was_before(tmp_path):
    first, second = (_new_folder(f"{tmp_path}/.submitit/%j") for _ in range(2))
    assert first != second and first.name == second.name == "%j"
    assert first.parents[1] == tmp_path / ".submitit"


def test_a_normalizer_that_makes_gigabytes_of_a_word_is_refused():
    own = json.loads(SubwordVocabulary.train(["a film"], max_tokens=260, min_freq=1).state())
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"}
    own["normalizer"] = {"type": "Sequence", "normalizers": [grow] * 10}
    with pytest.raises(ValueError, match="has another normalizer"):
        SubwordVocabulary(json.dumps(own))


def test_what_is_named_in_an_error_is_not_spelt_out():
    """A few lists in one another are more letters than fit in memory."""
    bomb: list[object] = ["x"]
    for _ in range(60):
        bomb = [bomb, bomb]
    state = {"tokenizer": bomb, "vocabulary": [], "max_length": 1, "truncation_side": "left"}
    for spoilt in (state, state | {"max_length": bomb}, state | {"truncation_side": bomb}):
        with pytest.raises(CheckpointError) as refused:
            TextEncoder.from_state_dict(spoilt)
        assert len(str(refused.value)) < 1000


@pytest.mark.slow
def test_a_half_done_run_of_a_stranger_is_refused_or_runs_nothing(tmp_path):
    small = ("data=demo", "data.num_train=60", "data.num_test=20", "model.hidden_size=4")
    small += ("model=rnn", "model.embedding_dim=4", "trainer=cpu", "logger=none")
    small += ("trainer.max_epochs=1", "hydra.run.dir=run")
    assert open_door("train.py", *small, cwd=tmp_path).returncode == 0
    (tmp_path / "run" / "result.json").unlink()
    last, best = (tmp_path / "run" / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    whole, whole_best = (torch.load(path, weights_only=True) for path in (last, best))

    other = whole["state_dict"] | {"classifier.recurrent.weight_hh_l0": torch.zeros(5, 5)}
    torch.save(whole | {"state_dict": other}, last)
    torch.save(whole_best | {"state_dict": other}, best)
    done = open_door("train.py", *small, cwd=tmp_path)
    assert done.returncode == 1 and last.exists() and "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert f"{last}: cannot be gone on with: RuntimeError: " in line

    names = {"_instantiator": "os.abort", "_target_": "os.abort", "_class_path": "os.abort"}
    torch.save(whole | {"hyper_parameters": whole["hyper_parameters"] | names}, last)
    torch.save(whole_best, best)
    done = open_door("train.py", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_no_option_of_a_run_names_what_to_call():
    """So that a saved config, checked, calls nothing."""
    names = json.dumps(RunConfig.model_json_schema())
    assert "_target_" not in names and "_instantiator" not in names
