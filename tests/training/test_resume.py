"""Which unfinished run can be resumed, and the files beside its checkpoint."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.samplers import BucketBatchSampler, TokenBatchSampler
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.tracking.metrics_csv import MetricsCsv
from rnn_lab.training.checkpoint_io import ResumePoint
from rnn_lab.training.config import RunConfig
from rnn_lab.training.hardware import Hardware
from rnn_lab.training.resume import find_resume_point, remove_unresumed
from rnn_lab.training.rollback import Rollback, write_rollbacks
from rnn_lab.training.saved_run import IncompatibleCheckpointError, SavedRun
from rnn_lab.training.spec import RunSpec
from rnn_lab.training.start import prepare_resume
from rnn_lab.validation import validate
from tests.training.small_trainer import OPTIONS, small_spec

MIXED = {"adversarial": 1, "entropy": 1, "virtual_adversarial": 1}
METADATA = {"signature": {"seed": 1, "model.hidden_size": 16}, "versions": {"torch": "2"}}


def resume_point(
    folder: Path, metadata: dict, resume: str = "auto", ckpt_path: Path | None = None
) -> ResumePoint | None:
    options = {"resume": resume, "ckpt_path": None if ckpt_path is None else str(ckpt_path)}
    spec = RunSpec(small_spec(folder).config.model_copy(update=options), folder)
    found = find_resume_point(spec, metadata, SavedRun.read(spec))
    if found is None:
        remove_unresumed(spec)
    return found


def interrupt(folder: Path, *, schema_version: object = 3, **state) -> Path:
    """Return the folder of a run that was interrupted in epoch 1."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save({"epoch": 0}, checkpoints / "best.ckpt")
    (folder / "metrics.csv").write_text("step,lr\r\n1,0.5\r\n2,0.25\r\n3,0.1")
    resume = {
        "epoch": 1,
        "batch_idx": 2,
        "training_complete": False,
        "metrics_rows": 2,
        "seconds": 1.0,
        "ranks": [],
        **METADATA,
    }
    resume |= state
    path = "/elsewhere/checkpoints/best.ckpt"
    best = {"BestCheckpoint": {"best_model_path": path, "epoch": 0, "loss": 0.5, "step": 4}}
    last = {"schema_version": schema_version, "global_step": 8}
    torch.save(last | {"callbacks": best, "resume": resume}, checkpoints / "last.ckpt")
    return folder


def test_empty_folder_has_no_resume_point(tmp_path, capsys):
    assert resume_point(tmp_path, METADATA) is None
    assert capsys.readouterr().err == ""


def test_unfinished_run_is_found_and_partial_files_are_removed(tmp_path, capsys):
    interrupt(tmp_path)
    (tmp_path / "checkpoints" / ".last.ckpt.123.partial").write_bytes(b"PK")
    found = resume_point(tmp_path, METADATA)
    assert isinstance(found, ResumePoint)
    assert (found.path.name, found.global_step, found.state["batch_idx"]) == ("last.ckpt", 8, 2)
    assert capsys.readouterr().err == "resumes in epoch 1 after 2 batches (step 8)\n"
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_other_options_are_refused_by_name(tmp_path):
    interrupt(tmp_path)
    other = METADATA | {"signature": {"seed": 2, "model.hidden_size": 32}}
    with pytest.raises(ConfigError) as refused:
        resume_point(tmp_path, other)
    (line,) = str(refused.value).splitlines()
    assert "seed=1 (saved), 2 (requested); model.hidden_size=16 (saved), 32 (requested)" in line
    assert "resume=never" in line
    assert resume_point(tmp_path, other, "never") is None
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_the_test_may_change_without_training_again(tmp_path):
    options = {"seed": 1, "trainer.limit_test_batches": 1, "test": False}
    interrupt(tmp_path, signature=options, training_complete=True)
    now = options | {"trainer.limit_test_batches": 1.0, "test": True}
    assert resume_point(tmp_path, METADATA | {"signature": now}) is not None


def test_run_resumes_with_its_texts_at_another_place(tmp_path, mood_reviews):
    """A job copies its texts to a disk of its node, which has another name in every job."""

    def signature(place: str, train: str, unlabelled: str) -> dict[str, Any]:
        folder = tmp_path / place
        folder.mkdir()
        (folder / "reviews.csv").write_text(train, encoding="utf-8")
        (folder / "more.txt").write_text(unlabelled, encoding="utf-8")
        data = {
            **{"source": "files", "train_path": str(folder / "reviews.csv")},
            **{"unlabelled": str(folder / "more.txt"), "cache_dir": str(folder / "cache")},
        }
        spec = RunSpec(validate(RunConfig, OPTIONS | {"data": data, "loss": MIXED}), folder)
        texts = TextDataModule(spec.config.data, train_unlabelled=True)
        texts.setup("fit")
        return spec.signature(Hardware("cpu", 1, "32-true"), texts)

    labelled = mood_reviews.read_text(encoding="utf-8")
    unlabelled = "a scene that nobody has labelled\n" * 3
    saved = signature("job1", labelled, unlabelled)
    interrupt(tmp_path / "run", signature=saved)
    there = signature("job2", labelled, unlabelled)
    assert there["data.train_path"] != saved["data.train_path"]
    assert resume_point(tmp_path / "run", METADATA | {"signature": there}) is not None
    for number, texts in enumerate(
        [(labelled + "music,sad\n", unlabelled), (labelled, unlabelled + "another scene\n")]
    ):
        others = signature(f"other{number}", *texts)
        with pytest.raises(ConfigError, match=r"data\.\w*fingerprint="):
            resume_point(tmp_path / "run", METADATA | {"signature": others})


def test_other_versions_are_printed(tmp_path, capsys):
    interrupt(tmp_path)
    assert resume_point(tmp_path, METADATA | {"versions": {"torch": "3"}}) is not None
    assert "torch 2 then, 3 now" in capsys.readouterr().err


def test_every_process_decides_alike_before_the_first_one_changes_the_folder(tmp_path, monkeypatch):
    """The processes of trainer=ddp do not wait for each other here; the first one moves files."""
    last = interrupt(tmp_path / "first") / "checkpoints" / "last.ckpt"
    for rank in (1, 0):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        found = resume_point(tmp_path / "copy", METADATA, ckpt_path=last)
        assert found is not None and found.is_copy
        assert found.path == tmp_path / "copy" / "checkpoints" / "last.ckpt"
        assert found.path.exists() == (rank == 0)
    for rank in (1, 0):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        assert resume_point(tmp_path / "first", METADATA, "never") is None
        assert last.exists() == (rank == 1)


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_rollbacks_of_the_copied_run_count_in_every_process(tmp_path, monkeypatch, resume):
    """Also before the first process has copied their file."""
    last = interrupt(tmp_path / "first") / "checkpoints" / "last.ckpt"
    rollbacks = (Rollback(3, 1, (2,), 0, "the loss is not finite"),)
    write_rollbacks(tmp_path / "first", rollbacks)
    options = {"resume": resume, "ckpt_path": str(last)}
    config = small_spec(tmp_path).config.model_copy(update=options)
    spec = RunSpec(config, tmp_path / "copy")
    for rank in (1, 0):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        data = TextDataModule(config.data)
        found = prepare_resume(spec, data, METADATA, SavedRun.read(spec))
        assert found[0] is not None and found[1] == rollbacks


class Attack:
    """Pickled, it creates a file where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def truncate(folder: Path) -> str:
    whole = (folder / "checkpoints" / "last.ckpt").read_bytes()
    (folder / "checkpoints" / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    return "truncated, or not a checkpoint"


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
    return "metrics.csv does not hold the 2 rows that were written"


def spoil_rows(folder: Path) -> str:
    (folder / "metrics.csv").write_bytes(b"step,lr\r\n1,0.5\r\n2,\xff\r\n")
    return "metrics.csv: damaged"


HARMS = [truncate, change_a_byte, lose_the_best, lose_rows, spoil_rows]


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_files_are_reported_in_one_line_and_the_run_starts_over(tmp_path, capsys, harm):
    interrupt(tmp_path)
    message = harm(tmp_path)
    assert resume_point(tmp_path, METADATA) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and line.endswith("; the run starts over")
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_files_of_a_finished_run_are_kept(tmp_path, harm):
    last = interrupt(tmp_path) / "checkpoints" / "last.ckpt"
    (tmp_path / "result.json").write_text("{}")
    message = harm(tmp_path)
    with pytest.raises(IncompatibleCheckpointError, match=f"{message}.*resume=never starts over"):
        resume_point(tmp_path, METADATA)
    assert last.exists() and (tmp_path / "result.json").exists()
    assert resume_point(tmp_path, METADATA, "never") is None
    assert not last.exists() and not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_ckpt_path_is_an_error(tmp_path, harm):
    """The command asked to continue that run: other weights would not be its."""
    last = interrupt(tmp_path / "other") / "checkpoints" / "last.ckpt"
    message = harm(tmp_path / "other")
    with pytest.raises(CheckpointError, match=f"^ckpt_path={last}: .*{message}"):
        resume_point(tmp_path / "run", METADATA, ckpt_path=last)
    assert last.exists()


@pytest.mark.parametrize("name", ["last", "best"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, name):
    interrupt(tmp_path)
    path = tmp_path / "checkpoints" / f"{name}.ckpt"
    torch.save({"epoch": Attack(tmp_path / "mark")}, path)
    if name == "last":
        torch.save({"resume": Attack(tmp_path / "mark")}, path)
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt: .*would run .*resume=never starts over"
    ):
        resume_point(tmp_path, METADATA)
    assert path.exists() and not (tmp_path / "mark").exists()
    torch.load(path, weights_only=False)  # the attack is real
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"epoch": -1}, "epoch"),
        ({"batch_idx": "2"}, "batch_idx=2"),
        ({"metrics_rows": None}, "metrics_rows"),
        ({"ranks": [{"rng_state": 1, "metric_sums": {}}]}, "ranks.0.rng_state"),
        ({"signature": []}, "signature"),
    ],
    ids=["epoch", "batch_idx", "metrics_rows", "ranks", "signature"],
)
def test_impossible_state_is_refused_and_kept(tmp_path, state, message):
    interrupt(tmp_path, **state)
    with pytest.raises(CheckpointError) as refused:
        resume_point(tmp_path, METADATA)
    (line,) = str(refused.value).splitlines()
    assert f"last.ckpt: not a last.ckpt of train.py: resume.{message}: " in line
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize(
    ("version", "has"),
    [*((n, f"schema_version {n!r}") for n in (1, 2, 4, "3", True)), (None, "no schema_version")],
)
def test_other_schema_version_is_refused_by_name(tmp_path, version, has):
    """And kept: the release that wrote it can resume it."""
    interrupt(tmp_path, schema_version=version)
    last = tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(CheckpointError) as refused:
        resume_point(tmp_path, METADATA)
    assert str(refused.value) == (
        f"{last}: has {has}; this version of rnn-lab reads schema_version 3; "
        "resume=never starts over"
    )
    assert last.exists()
    assert resume_point(tmp_path, METADATA, "never") is None and not last.exists()


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        # Checkpoints of development versions lack them.
        (
            {"BestCheckpoint": {"epoch": 0, "step": 4}},
            "callbacks.BestCheckpoint.loss: Field required",
        ),
        (
            {"BestCheckpoint": {"epoch": 0, "loss": 0.5}},
            "callbacks.BestCheckpoint.step: Field required",
        ),
        (
            {"BestCheckpoint": {"loss": 0.5, "step": 4}},
            "callbacks.BestCheckpoint.epoch: Field required",
        ),
        ({"BestCheckpoint": 1}, "callbacks.BestCheckpoint: Input should be"),
        ({"GradientFlow": 1}, "callbacks.GradientFlow: Input should be a valid dictionary"),
        ({"GradientFlow": {}}, "callbacks.GradientFlow.rows: Field required"),
        (1, "callbacks: Input should be"),
    ],
)
def test_impossible_state_of_callbacks_is_refused_by_name(tmp_path, callbacks, message):
    path = interrupt(tmp_path) / "checkpoints" / "last.ckpt"
    torch.save(torch.load(path, weights_only=True) | {"callbacks": callbacks}, path)
    with pytest.raises(CheckpointError, match="resume=never starts over") as refused:
        resume_point(tmp_path, METADATA)
    (line,) = str(refused.value).splitlines()
    assert f"not a last.ckpt of train.py: {message}" in line and path.exists()


def test_metrics_continue_after_the_kept_rows(tmp_path):
    """Later rows, of which one is cut off, are written again."""
    whole = MetricsCsv(tmp_path / "whole")
    interrupt(tmp_path / "cut", metrics_rows=2)
    resumed = MetricsCsv(tmp_path / "cut", keep=2)
    for step, metrics in ((1, {"lr": 0.5}), (2, {"lr": 0.25})):
        whole.log_metrics(metrics, step)
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
def test_batches_resume_within_an_epoch_and_the_next_one_is_whole(kind):
    lengths = np.random.default_rng(0).integers(1, 50, 200)
    options = {"shuffle": True} if kind is BucketBatchSampler else {}
    whole, resumed = (kind(lengths, 64, seed=3, **options) for _ in range(2))
    whole.set_epoch(2)
    resumed.resume_at(2, 2)
    expected = list(whole)[2:]
    for set_again in (False, True):  # Lightning sets the epoch after it began to iterate
        if set_again:
            resumed.set_epoch(2)
        assert all(map(np.array_equal, expected, list(resumed)))
    assert len(resumed) == len(whole) == len(expected) + 2
    for sampler in (whole, resumed):
        sampler.set_epoch(3)
    rest = list(resumed)
    assert len(rest) == len(whole)
    assert all(map(np.array_equal, list(whole), rest))
