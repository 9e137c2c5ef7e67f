"""An untrusted sweep, report or cache folder: nothing in it is run."""

import json
import os
import pickle
import socket
from collections.abc import Iterator
from typing import get_args

import numpy as np
import optuna
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import TrialState

from rnn_lab.data.bpe import SubwordTokenizer
from rnn_lab.data.storage import open_array
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.runs.result_json import read_result
from rnn_lab.runs.run_config import read_config
from rnn_lab.sweeps.launchers import _new_folder
from rnn_lab.sweeps.search.config import PrunerOptions, SamplerOptions, SearchOptions
from rnn_lab.sweeps.search.optuna_search import print_search, print_trial
from rnn_lab.sweeps.search.space import parse_space
from rnn_lab.sweeps.search.study import open_storage, open_study
from rnn_lab.sweeps.search.workers import SEEN, Worker
from rnn_lab.training.config import RunConfig
from rnn_lab.training.job_dir import JobDir
from rnn_lab.validation import StrictConfig
from tests.cli.forked import run_warm_command
from tests.io.test_safe_load import Attack

ALIASES = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 20)}]\n" for n in range(1, 20)
)


def test_config_of_aliases_is_not_expanded(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(ALIASES)
    with pytest.raises(CheckpointError, match=r"config\.yaml: .*alias"):
        read_config(tmp_path)


def test_config_that_builds_objects_is_refused(tmp_path):
    (tmp_path / ".hydra").mkdir()
    marker = tmp_path / "marker"
    text = f"!!python/object/apply:os.system ['touch {marker}']"
    (tmp_path / ".hydra" / "config.yaml").write_text(f"a: {text}\n_target_: os.abort\n")
    with pytest.raises(CheckpointError, match=r"config\.yaml"):
        read_config(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["pipe", "device", "deep", "huge"])
def test_impossible_result_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "result.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "deep":
        path.write_text("[" * 200_000)
    else:
        with path.open("wb") as file:
            file.truncate(2**40)  # sparse: it takes no disk
    with pytest.raises(CheckpointError, match=r"result\.json: "):
        read_result(tmp_path)
    assert JobDir(tmp_path).read("result") == {}


def test_pickle_in_a_cache_is_refused(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "values.npy"
    np.save(path, np.array([Attack(marker)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="object"):
        open_array(path)
    path.write_bytes(pickle.dumps(Attack(marker)))
    with pytest.raises(ValueError, match="pickled"):
        open_array(path)
    assert not marker.exists()


def test_results_of_launched_jobs_are_read_from_a_new_folder(tmp_path):
    first, second = (_new_folder(f"{tmp_path}/.submitit/%j") for _ in range(2))
    assert first != second and first.name == second.name == "%j"
    assert first.parents[1] == tmp_path / ".submitit"


def test_normalizer_that_expands_a_word_to_gigabytes_is_refused():
    own = json.loads(SubwordTokenizer.train(["a film"], max_vocab_size=260, min_freq=1).state())
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"}
    own["normalizer"] = {"type": "Sequence", "normalizers": [grow] * 10}
    with pytest.raises(ValueError, match="normalizer Replace makes texts longer"):
        SubwordTokenizer(json.dumps(own))


def test_values_in_errors_are_shortened():
    """A few nested lists are more characters than fit in memory."""
    bomb: list[object] = ["x"]
    for _ in range(60):
        bomb = [bomb, bomb]
    state = {"tokenizer": bomb, "vocabulary": [], "max_length": 1, "truncation_side": "left"}
    for spoilt in (state, state | {"max_length": bomb}, state | {"truncation_side": bomb}):
        with pytest.raises(CheckpointError) as refused:
            TextEncoder.from_state_dict(spoilt)
        assert len(str(refused.value)) < 1000


@pytest.mark.slow
def test_untrusted_unfinished_run_is_refused_or_runs_nothing(tmp_path):
    small = ("data=demo", "data.num_train=60", "data.num_test=20", "model.hidden_size=4")
    small += ("model=rnn", "model.embedding_dim=4", "trainer=cpu", "logger=none")
    small += ("trainer.max_epochs=1", "hydra.run.dir=run", "plots=false")
    assert run_warm_command("train.py", *small, cwd=tmp_path).returncode == 0
    (tmp_path / "run" / "result.json").unlink()
    last, best = (tmp_path / "run" / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    whole, whole_best = (torch.load(path, weights_only=True) for path in (last, best))

    other = whole["state_dict"] | {"classifier.recurrent.weight_hh_l0": torch.zeros(5, 5)}
    torch.save(whole | {"state_dict": other}, last)
    torch.save(whole_best | {"state_dict": other}, best)
    done = run_warm_command("train.py", *small, cwd=tmp_path)
    assert done.returncode == 1 and last.exists() and "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert f"{last}: cannot be resumed from: RuntimeError: " in line

    names = {"_instantiator": "os.abort", "_target_": "os.abort", "_class_path": "os.abort"}
    torch.save(whole | {"hyper_parameters": whole["hyper_parameters"] | names}, last)
    torch.save(whole_best, best)
    done = run_warm_command("train.py", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_three_options_alone_can_name_code():
    """Those that no file of a run is read for; a file with a profiler is refused."""
    free_form = {name for name, kind in fields_of(RunConfig) if "Any" in str(kind)}
    assert free_form == {"callbacks", "metrics", "trainer.profiler"}
    names = json.dumps(RunConfig.model_json_schema())
    assert "_target_" not in names and "_instantiator" not in names


def fields_of(schema: type[StrictConfig], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted name and the annotation of each option under `schema`."""
    for name, field in schema.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        kinds += [part for kind in kinds for part in get_args(kind)]
        groups = [k for k in kinds if isinstance(k, type) and issubclass(k, StrictConfig)]
        for group in groups:
            yield from fields_of(group, f"{prefix}{name}.")
        if not groups:
            yield f"{prefix}{name}", field.annotation


def open_a_study(path, **directions):
    space = parse_space(["x=interval(0,1)"], OverridesParser.create())
    pruner = PrunerOptions(name="none")
    storage = open_storage(str(path))
    about = {"directions": directions, "pruner": pruner, "max_epochs": 1, "options": {"seed": 1}}
    return open_study("s", storage, space=space, **about)


@pytest.mark.parametrize("options", [3, "x", [1], {"a": {"b": [1]}}, {"seed\x1b[2J": 1}])
def test_study_with_impossible_options_is_refused_in_one_line_or_begun_anew(tmp_path, options):
    path = tmp_path / "study.journal"
    open_a_study(path, **{"val/loss": "minimize"}).set_user_attr("options", options)
    if not isinstance(options, dict):
        open_a_study(path, **{"val/loss": "minimize"})
        return
    with pytest.raises(ConfigError, match="has other options: ") as refused:
        open_a_study(path, **{"val/loss": "minimize"})
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "content",
    [
        *(b"not JSON\n\n", b"[" * 100_000 + b"\n", b"3\n", b"null\n", b"{}\n", b"\xff\xfe\n\n"),
        *(b'{"op_code":99}\n', b'{"op_code":0,"worker_id":"w","study_name":"s"}\n'),
        b'{"op_code":0,"worker_id":"w","study_name":"s","directions":["os.system"]}\n',
        b'{"op_code":"\\u001b]0;title\\u0007"}\n',
    ],
)
def test_impossible_journal_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "study.journal"
    path.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"storage=.*study\.journal: not an Optuna journal"
    ) as error:
        open_storage(str(path))
    assert str(error.value).isprintable()
    assert path.read_bytes() == content


def test_pipe_is_refused_as_a_journal_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "study.journal")
    with pytest.raises(ConfigError, match="not a file"):
        open_storage(str(tmp_path / "study.journal"))


def test_study_with_other_directions_is_refused(tmp_path):
    storage = open_storage(str(tmp_path / "study.journal"))
    optuna.create_study(study_name="s", storage=storage, directions=["minimize"])
    with pytest.raises(ConfigError, match=r"has other directions: \['minimize'\]"):
        open_a_study(tmp_path / "study.journal", **{"val/f1": "maximize"})


@pytest.mark.parametrize("seen", [{"host": socket.gethostname(), "at": 0}, {"at": "x"}, "x", 3])
def test_study_cannot_name_a_file_to_open_as_a_lock(tmp_path, seen):
    """A lock file is emptied when it is locked."""
    (tmp_path / "sweep").mkdir()
    (tmp_path / "poetry.lock").write_text("kept")
    study = open_a_study(tmp_path / "sweep" / "study.journal", **{"val/loss": "minimize"})
    study.ask().set_user_attr("worker", "/../../poetry")
    study.set_user_attr(SEEN + "/../../poetry", seen)
    study.ask().set_user_attr("worker", "w")
    study.set_user_attr(SEEN + "w", seen)
    study.ask().set_user_attr("worker", 3)
    space = parse_space(["x=interval(0,1)"], OverridesParser.create())
    options = SearchOptions(n_trials=3, worker_timeout=30, sampler=SamplerOptions(name="random"))
    with Worker(study, space, options, tmp_path / "sweep") as worker:
        claimed = worker.claim(3)
    assert [trial.number for trial in claimed] == [0, 1, 2]
    assert (tmp_path / "poetry.lock").read_text() == "kept"


def test_control_characters_of_a_study_do_not_reach_the_terminal(tmp_path, capsys):
    study = open_a_study(tmp_path / "study.journal", **{"val/loss": "minimize"})
    trial = study.ask()
    for name in ("folder", "reason"):
        trial.set_user_attr(name, "a\x1b]0;title\x07\nb")
    trial.set_user_attr("overrides", ["x=\x1b[2J"])
    study.tell(trial, 0.5)
    study.tell(study.ask(), state=TrialState.FAIL)
    print_trial(study, 0)
    print_search(study, tmp_path, {})
    said = capsys.readouterr().out
    assert "title" in said and all(line.isprintable() for line in said.splitlines())
