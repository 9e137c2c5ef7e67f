"""A run that was killed goes on where it was."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.forked import open_warm

SMALL = (
    *("experiment=smoke", "logger=csv", "trainer=cpu", "model.dropout=0.5"),
    *("data.num_train=200", "data.num_test=40", "model.embedding_dim=8", "model.hidden_size=8"),
)  # six batches an epoch


MODULE = "rnn_lab.models.lightning_module.TextClassifier"


def kill(cwd: Path, *arguments: str, small: Sequence[str] = SMALL, **plan: Any) -> dict[str, Any]:
    """Carry out a plan of tests/training/killing.py; returns what it prints."""
    plan["arguments"] = [*small, *arguments]
    done = open_warm("tests/training/killing.py", str(cwd), json.dumps(plan), cwd=cwd)
    assert done.returncode == 0, done.stderr + (cwd / "log").read_text()
    return json.loads(done.stdout)


def aim(call: str, number: int = 1, **more: str) -> dict[str, Any]:
    """A kill at that call of a function, see tests/training/aims.py."""
    return {"call": call, "number": number} | more


@pytest.mark.slow
def test_killed_in_a_step_and_while_a_checkpoint_is_written_it_ends_with_the_same_bits(tmp_path):
    """First in a step within an epoch, then in writing last.ckpt within the next epoch."""
    found = kill(
        tmp_path,
        *("trainer.max_epochs=2", "trainer.checkpoint_every_n_steps=2"),
        *("trainer.gradient_flow=3", "trainer.log_every_n_steps=1"),
        runs={"killed": [aim("torch.Tensor.backward", 6), aim("os.fsync", 3)]},
    )["runs"]
    assert found == {"killed": {"statuses": [-9, -9, 0], "differences": []}}
    log = (tmp_path / "log").read_text()
    assert "goes on in epoch 0 after 4 batches (step 4)" in log


@pytest.mark.slow
def test_killed_wherever_it_hurts_it_ends_with_the_same_bits(tmp_path):
    """Each start of a run comes a little further than the one before."""
    best, last, keep = {"file": "best.ckpt"}, {"file": "last.ckpt"}, "rnn_lab.training.artifacts"
    kills = [
        aim("rnn_lab.data.cache._signatures"),  # of a cache that is full, but has no name yet
        aim("rnn_lab.data.storage.RaggedArrayWriter.append", when="after"),
        aim("torch.save", when="half", **best),
        aim("pathlib.Path.replace", when="after", **best),
        aim("torch.save", when="half", **last),
        aim(f"{MODULE}.validation_step", when="after"),
        aim("pathlib.Path.replace", when="after", **last),
        aim("torch.save", 2, when="half", **best),
        aim("pathlib.Path.replace", 1, when="after", **best),
        aim(f"{MODULE}.on_test_epoch_end"),
        aim(f"{keep}.write_predictions", when="after"),
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
def test_a_download_that_is_killed_goes_on_and_never_ends_with_half_an_archive(tmp_path):
    download = "rnn_lab.data.sources.download"
    kills = [
        aim("queue.Queue.get", 4),  # three pieces have come, the first of them the header
        aim(f"{download}._md5"),
        aim("pathlib.Path.replace", file=".part", when="after"),
        aim("rnn_lab.data.sources.imdb._split"),
    ]
    found = kill(
        tmp_path,
        *("logger=csv", "trainer=cpu", "data=imdb", "data.batch_size=32", "trainer.max_epochs=1"),
        *("data.val_fraction=0.2", "model.embedding_dim=8", "model.hidden_size=8"),
        *("data.cache_dir={run}_cache", "data.root={run}_root"),
        small=(),
        archive=True,
        runs={"killed": kills},
    )["runs"]
    assert found == {"killed": {"statuses": [-9, -9, -9, -9, 0], "differences": []}}
    size = (tmp_path / "archive").stat().st_size
    _, first, second, third = (tmp_path / "asked").read_text().splitlines()
    assert first == "None"
    assert second.startswith("bytes=") and 0 < int(second[6:-1]) < size
    assert third == f"bytes={size}-"  # whole, but for its name
    archives = [tmp_path / name / "aclImdb_v1.tar.gz" for name in ("whole_root", "killed_root")]
    assert [path.read_bytes() for path in archives] == [(tmp_path / "archive").read_bytes()] * 2


@pytest.mark.slow
def test_a_signal_at_any_moment_ends_it_in_order_and_it_goes_on_to_the_same_bits(tmp_path):
    term, ctrl_c = {"signal": "SIGTERM"}, {"signal": "SIGINT"}
    kills = [
        aim("rnn_lab.data.storage.RaggedArrayWriter.append", **term),
        aim("rnn_lab.training.run.build_classifier", **ctrl_c),
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
    assert re.findall(r"^interrupted; (\w+ \w+) with: python train.py", log, re.MULTILINE) == (
        ["starts anew"] * 2 + ["goes on"] * 5
    )
    assert re.findall(r"goes on in epoch (\d) after (\d) batches", log)[:2] == [
        ("0", "2"),
        ("0", "5"),  # of six: the validation that was stopped is made again, after the sixth
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("trainer.accumulate_grad_batches=2", "trainer.gradient_flow=epoch", "logger=wandb"),
        ("data.max_tokens_per_batch=3000", "data.max_length=300", "data.num_workers=1"),
    ],
)
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path, options):
    """A sample of tests/training/fifty_kills.json."""
    found = kill(
        tmp_path,
        *("trainer.max_epochs=4", "trainer.patience=1", *options),
        *("trainer.checkpoint_every_n_minutes=0.0005",),
        random_kills=2,
        seed=len(options),
    )["runs"]
    assert all(run["differences"] == [] for run in found.values()), found
