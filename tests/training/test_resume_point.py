"""Which half-done run may be gone on with, and the files beside its checkpoint."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from rnn_lab.data.samplers import BucketBatchSampler, TokenBatchSampler
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.tracking.metrics_csv import MetricsCsv
from rnn_lab.training.resume import ResumePoint, find_resume_point

MAKING = {"signature": {"seed": 1, "model.hidden_size": 16}, "versions": {"torch": "2"}}


def leave(folder: Path, **state) -> Path:
    """The folder of a run that was interrupted in epoch 1."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save({"epoch": 0}, checkpoints / "best.ckpt")
    (folder / "metrics.csv").write_text("step,lr\r\n1,0.5\r\n2,0.25\r\n3,0.1")
    resume = {
        "epoch": 1,
        "batch": 2,
        "trained": False,
        "rows": 2,
        "seconds": 1.0,
        "ranks": [],
        **MAKING,
    }
    resume |= state
    best = {"ModelCheckpoint": {"best_model_path": "/elsewhere/checkpoints/best.ckpt"}}
    torch.save({"global_step": 8, "callbacks": best, "resume": resume}, checkpoints / "last.ckpt")
    return folder


def test_an_empty_folder_holds_no_half_done_run(tmp_path, capsys):
    assert find_resume_point(tmp_path, "auto", MAKING) is None
    assert capsys.readouterr().err == ""


def test_a_half_done_run_is_found_and_what_a_kill_left_half_written_is_removed(tmp_path, capsys):
    leave(tmp_path)
    (tmp_path / "checkpoints" / ".last.ckpt.123.partial").write_bytes(b"PK")
    found = find_resume_point(tmp_path, "auto", MAKING)
    assert isinstance(found, ResumePoint)
    assert (found.path.name, found.global_step, found.state["batch"]) == ("last.ckpt", 8, 2)
    assert capsys.readouterr().err == "goes on in epoch 1 after 2 batches (step 8)\n"
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_other_options_are_refused_and_named(tmp_path):
    leave(tmp_path)
    other = MAKING | {"signature": {"seed": 2, "model.hidden_size": 32}}
    with pytest.raises(ConfigError) as refused:
        find_resume_point(tmp_path, "auto", other)
    (line,) = str(refused.value).splitlines()
    assert "seed=1 there, 2 here; model.hidden_size=16 there, 32 here" in line
    assert "resume=never" in line
    assert find_resume_point(tmp_path, "never", other) is None
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_other_versions_are_said(tmp_path, capsys):
    leave(tmp_path)
    assert find_resume_point(tmp_path, "auto", MAKING | {"versions": {"torch": "3"}}) is not None
    assert "torch 2 then, 3 now" in capsys.readouterr().err


class Planted:
    """Pickled, it would leave a file where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def cut(folder: Path) -> str:
    whole = (folder / "checkpoints" / "last.ckpt").read_bytes()
    (folder / "checkpoints" / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    return "cut off"


def change_a_byte(folder: Path) -> str:
    whole = bytearray((folder / "checkpoints" / "last.ckpt").read_bytes())
    whole[whole.index(b"hidden_size")] ^= 1
    (folder / "checkpoints" / "last.ckpt").write_bytes(whole)
    return "damaged in"


def lose_the_best(folder: Path) -> str:
    (folder / "checkpoints" / "best.ckpt").unlink()
    return "best.ckpt beside it"


def lose_rows(folder: Path) -> str:
    (folder / "metrics.csv").write_text("step,lr\r\n1,0.5\r\n2,0.2")
    return "metrics.csv does not hold the 2 rows"


@pytest.mark.parametrize("harm", [cut, change_a_byte, lose_the_best, lose_rows])
def test_what_is_damaged_is_said_in_a_line_and_the_run_starts_anew(tmp_path, capsys, harm):
    leave(tmp_path)
    said = harm(tmp_path)
    assert find_resume_point(tmp_path, "auto", MAKING) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and line.endswith("the run starts anew")
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("name", ["last", "best"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, name):
    leave(tmp_path)
    path = tmp_path / "checkpoints" / f"{name}.ckpt"
    torch.save({"epoch": Planted(tmp_path / "mark")}, path)
    if name == "last":
        torch.save({"resume": Planted(tmp_path / "mark")}, path)
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt: .*would run .*resume=never starts anew"
    ):
        find_resume_point(tmp_path, "auto", MAKING)
    assert path.exists() and not (tmp_path / "mark").exists()
    torch.load(path, weights_only=False)  # the attack is a real one
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"epoch": -1}, "epoch"),
        ({"batch": "2"}, "batch"),
        ({"rows": None}, "rows"),
        ({"ranks": [{"random": 1, "sums": {}}]}, "ranks.0.random"),
        ({"signature": []}, "signature"),
    ],
    ids=["epoch", "batch", "rows", "ranks", "signature"],
)
def test_what_no_run_leaves_is_refused_and_kept(tmp_path, state, said):
    leave(tmp_path, **state)
    with pytest.raises(CheckpointError) as refused:
        find_resume_point(tmp_path, "auto", MAKING)
    (line,) = str(refused.value).splitlines()
    assert f"last.ckpt: not what train.py leaves: resume.{said}: " in line
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_metrics_go_on_after_the_rows_that_are_kept(tmp_path):
    """The rows after, and the half of one, are written again."""
    whole = MetricsCsv(tmp_path / "whole")
    leave(tmp_path / "cut", rows=2)
    resumed = MetricsCsv(tmp_path / "cut", keep=2)
    for step, figures in ((1, {"lr": 0.5}), (2, {"lr": 0.25})):
        whole.log_metrics(figures, step)
    for logger in (whole, resumed):
        logger.log_metrics({"lr": 0.125}, 3)
        logger.log_metrics({"val/loss": 1.5}, 4)
    assert whole.rows == resumed.rows == 4
    written = (tmp_path / "cut" / "metrics.csv").read_bytes()
    assert written == (tmp_path / "whole" / "metrics.csv").read_bytes()
    rows = list(csv.reader(written.decode().splitlines()))
    assert rows == [["lr", "step", "val/loss"], ["0.5", "1", ""], ["0.25", "2", ""],
                    ["0.125", "3", ""], ["", "4", "1.5"]]  # fmt: skip


@pytest.mark.parametrize("kind", [BucketBatchSampler, TokenBatchSampler])
def test_batches_go_on_within_an_epoch_and_the_next_is_whole(kind):
    lengths = np.random.default_rng(0).integers(1, 50, 200)
    options = {"shuffle": True} if kind is BucketBatchSampler else {}
    whole, resumed = (kind(lengths, 64, seed=3, **options) for _ in range(2))
    whole.set_epoch(2)
    resumed.resume_at(2, 2)
    expected = list(whole)[2:]
    for set_anew in (False, True):  # Lightning sets the epoch after it has begun to iterate
        if set_anew:
            resumed.set_epoch(2)
        assert all(map(np.array_equal, expected, list(resumed)))
    assert len(resumed) == len(whole) == len(expected) + 2
    for sampler in (whole, resumed):
        sampler.set_epoch(3)
    rest = list(resumed)
    assert len(rest) == len(whole)
    assert all(map(np.array_equal, list(whole), rest))
