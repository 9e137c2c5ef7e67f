import subprocess
import sys
from pathlib import Path

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


def run_code(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, with `folder` as its argument."""
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=PROJECT,
        env=command_environment(folder),
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_objects_alive_when_wandb_is_imported_are_freed(tmp_path):
    """It is imported during the first run of a sweep, and what its import references stays."""
    done = run_code(FIRST_RUN, tmp_path)
    assert done.stdout.splitlines()[-1:] == ["freed"], done.stderr


CALLERS_RUN = """
import pathlib, sys, wandb
from rnn_lab.errors import ConfigError
from rnn_lab.tracking.config import WandbConfig
from rnn_lab.tracking.loggers import build_loggers, finish_wandb

config, folder = WandbConfig(name="wandb", mode="offline"), pathlib.Path(sys.argv[1])
about = {"name": "run", "tags": [], "group": None, "config": {}}
own = wandb.init(mode="offline", dir=folder, settings=wandb.Settings(console="off", silent=True))
finish_wandb(0)
assert wandb.run is own
try:
    build_loggers(config, folder, about)
except ConfigError as error:
    print(error)
own.log({"loss": 1.0})
own.finish()
build_loggers(config, folder, about)
assert wandb.run is not None
finish_wandb(0)
assert wandb.run is None
print("finished")
"""


@pytest.mark.slow
def test_a_wandb_run_of_the_caller_is_not_finished(tmp_path):
    done = run_code(CALLERS_RUN, tmp_path)
    lines = done.stdout.splitlines()
    own = "logger=wandb: this process has a W&B run of its own; finish it, or give logger=none"
    assert lines[:1] == [own] and lines[-1:] == ["finished"], done.stderr
