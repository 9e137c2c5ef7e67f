"""Two commands that are given the same place at once."""

import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from rnn_lab.errors import UserError
from rnn_lab.inference.lock_callbacks import lock_test_dir
from rnn_lab.inference.predict import predict
from rnn_lab.io.locks import LockHeldError
from tests.cli.forked import Started, run_warm_command
from tests.io.test_locks import HOLD, another

SMALL = (
    *("experiment=smoke", "logger=csv", "trainer=cpu", "hydra.run.dir=run"),
    *("data.num_train=200", "data.num_test=40"),
)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_second_of_two_trainings_is_refused_and_the_first_ones_lock_dies_with_it(tmp_path):
    long = (*SMALL, "trainer.max_epochs=500")
    first = Started("train.py", *long, cwd=tmp_path, out=tmp_path / "said")
    while not (tmp_path / "run/checkpoints/last.ckpt").exists():
        assert first.poll() is None
        time.sleep(0.02)
    before = contents(tmp_path / "run" / ".hydra")
    other = (*SMALL, "trainer.max_epochs=2")
    second = run_warm_command("train.py", *other, cwd=tmp_path)
    assert second.returncode == 1
    assert re.fullmatch(
        rf"error: hydra\.run\.dir=\S+: locked by process {first.pid} on \S+; wait .*\n",
        second.stderr,
    )
    first.send_signal(signal.SIGKILL)
    first.wait()
    job = (tmp_path / "run" / "job.json").read_bytes()
    refused = run_warm_command("train.py", *other, cwd=tmp_path)  # not for the lock any more
    assert refused.returncode == 1
    assert "trainer.max_epochs=500 (saved), 2 (requested)" in refused.stderr
    assert contents(tmp_path / "run" / ".hydra") == before
    assert (tmp_path / "run" / "job.json").read_bytes() == job
    assert not (tmp_path / "run" / "failure.json").exists()


def test_two_tests_do_not_share_a_folder_and_none_goes_over_a_training(tmp_path, mood_run):
    with another(HOLD, tmp_path / "eval.lock") as process, pytest.raises(LockHeldError) as refused:
        lock_test_dir(tmp_path)
    assert f"process {process.pid} on" in str(refused.value)
    lock_test_dir(tmp_path)
    before = contents(mood_run)
    with pytest.raises(UserError, match="contains a training run; choose another folder"):
        lock_test_dir(mood_run)
    done = run_warm_command("eval.py", f"run={mood_run}", f"hydra.run.dir={mood_run}", cwd=tmp_path)
    assert done.returncode == 1
    assert "contains a training run" in done.stderr and len(done.stderr.splitlines()) == 1
    assert contents(mood_run) == before


def test_two_predictions_do_not_share_an_output(tmp_path, mood_run):
    (tmp_path / "texts.txt").write_text("a lovely film\nan awful film\n")
    output = tmp_path / "out.jsonl"
    output.write_text("before")
    names = {"run": mood_run, "input": tmp_path / "texts.txt", "output": output}
    options: dict[str, Any] = {name: str(path) for name, path in names.items()}
    options["overwrite"] = True  # the output is no file of predictions yet
    with another(HOLD, tmp_path / ".out.jsonl.lock") as process:
        with pytest.raises(LockHeldError, match=f"^output=.*: locked by process {process.pid} on"):
            predict(options)
        assert output.read_text() == "before"
    predict(options)
    assert len(output.read_text().splitlines()) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"texts.txt", "out.jsonl"}
