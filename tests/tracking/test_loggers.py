import subprocess
import sys

import pytest

from tests.cli.runner import PROJECT, command_environment

FIRST_RUN = """
import gc, pathlib, sys, weakref
from rnn_lab.training.config import WandbConfig
from rnn_lab.tracking.loggers import build_loggers, finish_wandb

class Model: pass

model = Model()
model.trainer = {"model": model}
weak = weakref.ref(model)
described = {"name": "run", "tags": [], "group": None, "options": {}}
build_loggers(WandbConfig(name="wandb", mode="offline"), pathlib.Path(sys.argv[1]), **described)
finish_wandb(0)
del model
gc.collect()
print("let go" if weak() is None else "held")
"""


@pytest.mark.slow
def test_what_lives_when_wandb_comes_in_is_let_go(tmp_path):
    """It is imported in the midst of a sweep's first run, and imports are kept for ever."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_RUN, str(tmp_path)],
        cwd=PROJECT,
        env=command_environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["let go"], done.stderr
