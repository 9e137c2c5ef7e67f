"""A run that runs out of memory keeps a complete training: it is not trained again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.forked import run_warm_command

SMALL = (
    *("data=demo", "trainer=cpu", "trainer.precision=32-true", "logger=none", "plots=false"),
    *("data.num_train=100", "data.num_test=40", "data.batch_size=16", "data.eval_batch_size=16"),
    *("model.embedding_dim=8", "model.hidden_size=8", "baseline=none"),
    *("scheduler=constant", "scheduler.warmup_ratio=0", "trainer.checkpoint_every_n_steps=1"),
    "plugins=[tests.training.scarce_memory]",
)
ONE, TWO = "trainer.max_epochs=1", "trainer.max_epochs=2"


def train(cwd: Path, *options: str, name: str = "run", fails: bool = False, **scarce: int) -> str:
    """Train in the folder `name` where memory is scarce; return what is printed on stderr."""
    env = {"SCARCE": json.dumps(scarce)}
    line = (*SMALL, *options, f"hydra.run.dir={name}")
    done = run_warm_command("train.py", *line, cwd=cwd, env=env)
    assert (done.returncode != 0) == fails, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch."""
    cwd = tmp_path_factory.mktemp("finished")
    train(cwd, ONE)
    return cwd / "run"


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_only_the_test_is_repeated(tmp_path, finished, resume):
    printed = train(tmp_path, ONE, f"resume={resume}", test_step=5)
    for size in (16, 8):
        line = f"run: out of memory after training with data.eval_batch_size={size}; tests again "
        assert f"{line}with data.eval_batch_size={size // 2}\n" in printed
    assert printed.count("the training was complete: resumes with the test") == 2
    found, expected = result(tmp_path / "run"), result(finished)
    assert found["data"]["options"]["eval_batch_size"] == 4
    assert found["batch_halvings"] == 0
    for metric in ("val/loss", "test/loss"):
        assert found[metric] == pytest.approx(expected[metric], rel=1e-5)
    assert "continues after 1 epoch up to trainer.max_epochs=2" in train(tmp_path, TWO)


def test_a_smaller_batch_is_that_of_the_interrupted_run_alone(tmp_path):
    """What starts over has the batch that it is given."""
    train(tmp_path, ONE, training_step=8, stop=3, fails=True)
    printed = train(tmp_path, ONE, "resume=never", training_step=16)
    assert "ran out of memory before" not in printed
    assert result(tmp_path / "run")["data"]["options"]["batch_size"] == 16
    train(tmp_path, ONE, name="other", training_step=8, stop=3, fails=True)
    printed = train(tmp_path, ONE, name="other", training_step=16)
    assert "other: a larger batch ran out of memory before: data.batch_size=8 " in printed


def test_training_is_kept_where_no_test_is_small_enough(tmp_path):
    printed = train(tmp_path, ONE, "data.eval_batch_size=2", test_step=0, fails=True)
    error = printed.splitlines()[-1]
    assert error.startswith(
        "error: out of memory after training, even with data.eval_batch_size=1: "
    )
    assert error.endswith("; the same command resumes with the test")
    printed = train(tmp_path, ONE, "data.eval_batch_size=4")
    assert "the training was complete: resumes with the test" in printed
    assert result(tmp_path / "run")["epochs"] == 1


def test_run_is_finished_without_baselines_and_plots(tmp_path):
    printed = train(tmp_path, ONE, "baseline=tfidf", "plots=true", baselines=0, plots=0)
    assert printed == (
        "out of memory: the run has no baselines\nout of memory: the run has no further plots\n"
    )
    assert "baseline" not in result(tmp_path / "run")
    assert (tmp_path / "run" / "predictions.csv").exists()


@pytest.mark.parametrize("steps", [0, 3])
def test_more_epochs_do_not_discard_the_finished_run(tmp_path, finished, steps):
    """Memory runs out after so many of their steps, and again when they are resumed."""
    shutil.copytree(finished, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for after in (steps, 0):
        printed = train(tmp_path, TWO, training_step=8, after=after, fails=True)
        assert "starts over" not in printed
        error = printed.splitlines()[-1]
        assert error.startswith("error: out of memory with data.batch_size=16 ")
        assert f"ckpt_path={last} continues it in another folder" in error
    if steps:
        assert "resumes in epoch 1 after " in train(tmp_path, TWO)
    else:
        assert "the training was complete: resumes with the test" in train(tmp_path, ONE)
    assert result(tmp_path / "run")["epochs"] == 1 + bool(steps)


def test_copy_of_a_finished_run_continues_with_a_smaller_batch(tmp_path, finished):
    last = finished / "checkpoints" / "last.ckpt"
    printed = train(tmp_path, TWO, f"ckpt_path={last}", training_step=8)
    assert "starts over with data.batch_size=8 " in printed
    assert printed.count("continues after 1 epoch") == 2
