"""A killed run resumes to the same outputs, bit by bit."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.forked import run_warm_command

SMALL = (
    *("experiment=smoke", "logger=csv", "trainer=cpu", "model.dropout=0.5"),
    *("data.num_train=200", "data.num_test=40", "model.embedding_dim=8", "model.hidden_size=8"),
)  # six batches an epoch


MODULE = "rnn_lab.models.lightning_module.TextClassifier"


def kill(cwd: Path, *arguments: str, small: Sequence[str] = SMALL, **plan: Any) -> dict[str, Any]:
    """Carry out a plan of tests/training/killing.py and return what it prints."""
    plan["arguments"] = [*small, *arguments]
    done = run_warm_command("tests/training/killing.py", str(cwd), json.dumps(plan), cwd=cwd)
    assert done.returncode == 0, done.stderr + (cwd / "log").read_text()
    return json.loads(done.stdout)


def aim(call: str, number: int = 1, **more: str) -> dict[str, Any]:
    """Return a kill at that call of a function; see tests/training/aims.py."""
    return {"call": call, "number": number} | more


@pytest.mark.slow
def test_killed_in_a_step_and_in_a_checkpoint_write(tmp_path):
    """First in a step within an epoch, then while last.ckpt is written within the next one."""
    found = kill(
        tmp_path,
        *("trainer.max_epochs=2", "trainer.checkpoint_every_n_steps=2"),
        *("trainer.gradient_flow=3", "trainer.log_every_n_steps=1", "plots=false"),
        "trainer.precision=64-true",
        runs={"killed": [aim("torch.Tensor.backward", 6), aim("os.fsync", 3)]},
    )["runs"]
    assert found == {"killed": {"statuses": [-9, -9, 0], "differences": []}}
    log = (tmp_path / "log").read_text()
    assert "resumes in epoch 0 after 4 batches (step 4)" in log


@pytest.mark.slow
def test_a_resumed_run_has_the_temperature_of_one_that_was_not_killed(tmp_path):
    """Killed after the validation that fitted the one of best.ckpt, and before a later one."""
    found = kill(
        tmp_path,
        *("trainer.max_epochs=3", "optimizer.lr=0.03", "data.val_fraction=0.5", "plots=false"),
        *("data.num_train=240", "trainer.monitor=val/loss", "trainer.checkpoint_every_n_steps=2"),
        runs={"killed": [aim("torch.Tensor.backward", 7), aim(f"{MODULE}.on_test_epoch_end")]},
    )["runs"]
    assert found == {"killed": {"statuses": [-9, -9, 0], "differences": []}}
    result = json.loads((tmp_path / "killed" / "result.json").read_text())
    assert result["calibration"]["temperature"] != 1.0


@pytest.mark.slow
def test_killed_at_every_critical_call(tmp_path):
    """Each start of the run gets a little further than the one before."""
    best, last = {"file": "best.ckpt"}, {"file": "last.ckpt"}
    outputs = "rnn_lab.training.split_predictions.SplitPredictions"
    kills = [
        aim("rnn_lab.data.cache._signatures"),  # the cache is complete, but has no name yet
        aim("rnn_lab.data.storage.RaggedArrayWriter.append", when="after"),
        aim("torch.save", when="half", **best),
        aim("pathlib.Path.replace", when="after", **best),
        aim("torch.save", when="half", **last),
        aim(f"{MODULE}.validation_step", when="after"),
        aim("pathlib.Path.replace", when="after", **last),
        aim("torch.save", 2, when="half", **best),
        aim("pathlib.Path.replace", 1, when="after", **best),
        aim(f"{MODULE}.on_test_epoch_end"),
        aim(f"{outputs}._write_predictions", when="after"),
        aim("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", 2, when="after"),
        aim("pathlib.Path.replace", 4, file=".finishing", when="after"),
    ]
    found = kill(
        tmp_path,
        *("trainer.max_epochs=4", "trainer.monitor=val/loss", "trainer.checkpoint_every_n_steps=4"),
        "data.cache_dir={run}_cache",
        runs={"killed": kills},
    )["runs"]
    assert found == {"killed": {"statuses": [-9] * len(kills) + [0], "differences": []}}


@pytest.mark.slow
def test_killed_download_resumes_and_never_leaves_half_an_archive(tmp_path):
    download = "rnn_lab.data.sources.download"
    kills = [
        aim("queue.Queue.get", 4),  # after three pieces, of which the header is the first
        aim(f"{download}._md5"),
        aim("pathlib.Path.replace", file=".part", when="after"),
        aim("rnn_lab.data.sources.imdb._split"),
    ]
    found = kill(
        tmp_path,
        *("logger=csv", "trainer=cpu", "data=imdb", "data.batch_size=32", "trainer.max_epochs=1"),
        *("data.val_fraction=0.2", "model.embedding_dim=8", "model.hidden_size=8"),
        *("data.cache_dir={run}_cache", "data.root={run}_root", "plots=false"),
        small=(),
        archive=True,
        runs={"killed": kills},
    )["runs"]
    assert found == {"killed": {"statuses": [-9, -9, -9, -9, 0], "differences": []}}
    size = (tmp_path / "archive").stat().st_size
    _, first, second, third = (tmp_path / "asked").read_text().splitlines()
    assert first == "None"
    assert second.startswith("bytes=") and 0 < int(second[6:-1]) < size
    assert third == f"bytes={size}-"  # complete, but not renamed
    archives = [tmp_path / name / "aclImdb_v1.tar.gz" for name in ("whole_root", "killed_root")]
    assert [path.read_bytes() for path in archives] == [(tmp_path / "archive").read_bytes()] * 2


@pytest.mark.slow
def test_signals_at_any_moment_stop_cleanly_and_it_resumes_bit_by_bit(tmp_path):
    term, ctrl_c = {"signal": "SIGTERM"}, {"signal": "SIGINT"}
    kills = [
        aim("rnn_lab.data.storage.RaggedArrayWriter.append", **term),
        aim("rnn_lab.training.train._build_classifier", **ctrl_c),
        aim("torch.Tensor.backward", 2, **term),
        aim(f"{MODULE}.validation_step", **ctrl_c),
        aim("os.fsync", file="best.ckpt", **term),
        aim(f"{MODULE}.test_step", **ctrl_c),
        aim("rnn_lab.training.artifacts.draw_plots", **term),
    ]
    found = kill(
        tmp_path,
        *("trainer.max_epochs=3", "trainer.monitor=val/loss", "data.eval_batch_size=8"),
        *("logger=wandb", "data.cache_dir={run}_cache"),
        runs={"stopped": kills},
    )
    statuses = [143 if "TERM" in one["signal"] else 130 for one in kills]
    assert found["runs"] == {"stopped": {"statuses": [*statuses, 0], "differences": []}}
    assert max(found["stops"]) < 10, found["stops"]
    log = (tmp_path / "log").read_text()
    assert re.findall(r"^interrupted; ([a-z ]+) with: \S+ \S*train\.py", log, re.MULTILINE) == (
        ["start over"] * 2 + ["resume"] * 5
    )
    assert re.findall(r"resumes in epoch (\d) after (\d) batches", log)[:2] == [
        ("0", "2"),
        ("0", "5"),  # of six: the interrupted validation is repeated after the sixth
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("trainer.accumulate_grad_batches=2", "trainer.gradient_flow=epoch", "logger=wandb"),
        ("data.max_tokens_per_batch=3000", "data.max_length=300", "data.num_workers=1"),
    ],
)
def test_killed_at_random_moments(tmp_path, options):
    """A sample of tests/training/fifty_kills.json."""
    found = kill(
        tmp_path,
        *("trainer.max_epochs=4", "trainer.patience=1", *options),
        *("trainer.checkpoint_every_n_minutes=0.0005", "plots=false"),
        random_kills=2,
        seed=len(options),
    )["runs"]
    assert all(run["differences"] == [] for run in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize(
    "stopping", [("trainer.patience=3",), ("trainer.patience=null", "callbacks=early_stopping")]
)
def test_early_stopping_resumes_in_an_epoch_that_ends_before_its_validation(tmp_path, stopping):
    found = kill(
        tmp_path,
        *("trainer.max_epochs=5", "trainer.max_steps=9", "trainer.checkpoint_every_n_steps=1"),
        *("plots=false", *stopping),
        runs={"killed": [aim("torch.Tensor.backward", 9)]},
    )["runs"]
    assert found == {"killed": {"statuses": [-9, 0], "differences": []}}


@pytest.mark.slow
def test_killed_between_batches_of_labelled_and_unlabelled_texts(tmp_path):
    """The unlabelled texts have batches of their own, which end in the middle of epochs."""
    texts = [f"a good film {i}, not a dull one" if i % 3 else f"dull {i}" for i in range(31)]
    (tmp_path / "more.txt").write_text("\n".join(texts))
    found = kill(
        tmp_path,
        *("loss=mixed", "loss.r_drop=0.5", "data.unlabelled=more.txt"),
        *("data.unlabelled_batch_size=4", "trainer.max_epochs=3", "plots=false"),
        *("trainer.checkpoint_every_n_steps=1", "optimizer.sparse_embedding=true"),
        runs={"killed": [aim("torch.Tensor.backward", 3), aim("torch.Tensor.backward", 7)]},
    )["runs"]
    assert found == {"killed": {"statuses": [-9, -9, 0], "differences": []}}
    result = json.loads((tmp_path / "killed" / "result.json").read_text())
    unlabelled = result["data"]["unlabelled"]
    assert (unlabelled["num_examples"], unlabelled["held_out"]) == (31, 0)
    assert result["loss"]["virtual_adversarial"] == 1.0
    header = (tmp_path / "killed" / "metrics.csv").read_text().splitlines()[0].split(",")
    losses = ("adversarial", "cross_entropy", "entropy", "r_drop", "virtual_adversarial")
    assert {f"train/loss_{name}" for name in losses} <= set(header)
