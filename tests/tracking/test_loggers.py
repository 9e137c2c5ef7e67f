import subprocess
import sys

import pytest

from tests.cli.runner import PROJECT, command_environment

FIRST_RUN = """
import gc, pathlib, sys, weakref
from rnn_lab.fast_import import gc_disabled
from rnn_lab.tracking.config import WandbConfig

with gc_disabled():
    from rnn_lab.tracking.loggers import build_loggers, finish_wandb

class Model: pass

model = Model()
model.trainer = {"model": model}
weak = weakref.ref(model)
about = {"name": "run", "tags": [], "group": None, "config": {}}
build_loggers(WandbConfig(name="wandb", mode="offline"), pathlib.Path(sys.argv[1]), about)
finish_wandb(0)
del model
gc.collect()
print("freed" if weak() is None else "leaked")
"""


@pytest.mark.slow
def test_objects_alive_when_wandb_is_imported_are_freed(tmp_path):
    """It is imported during the first run of a sweep, and what its import references stays."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_RUN, str(tmp_path)],
        cwd=PROJECT,
        env=command_environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["freed"], done.stderr
