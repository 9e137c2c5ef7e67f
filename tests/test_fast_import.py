import gc
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_lab.fast_import import fast_imports, gc_disabled

MODULE = "a_module_that_makes_many_objects"


@pytest.fixture
def many_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module with more objects than the collector lets come in before it goes through them."""
    (tmp_path / f"{MODULE}.py").write_text("OBJECTS = [[i] for i in range(100_000)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(MODULE, None)


@pytest.fixture
def collections():
    """The generations collected, as they are."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_nothing_is_collected_while_modules_come_in_nor_are_they_later(many_objects, collections):
    frozen = gc.get_freeze_count()
    with fast_imports():
        __import__(MODULE)
    assert collections == []
    assert gc.get_freeze_count() >= frozen + 100_000
    [[i] for i in range(100_000)]
    assert collections, "the collector is back"


def test_a_plain_import_is_gone_through(many_objects, collections):
    """What the test above would say without `fast_imports`."""
    __import__(MODULE)
    assert collections


def test_where_nothing_comes_in_no_garbage_is_spared():
    frozen = gc.get_freeze_count()
    with fast_imports():
        __import__("json")
    assert gc.get_freeze_count() == frozen


def test_what_lives_already_is_collected_when_it_dies(many_objects, collections):
    """As the model and the reviews of a sweep's first run, while its logger comes in."""
    frozen = gc.get_freeze_count()
    with gc_disabled():
        __import__(MODULE)
        assert collections == []
    assert gc.get_freeze_count() <= frozen


@pytest.mark.parametrize("context", [fast_imports, gc_disabled])
def test_the_collector_is_left_as_it_was(many_objects, context):
    gc.disable()
    try:
        with context():
            __import__(MODULE)
        assert not gc.isenabled()
    finally:
        gc.enable()
    with pytest.raises(ImportError), context():
        __import__("no_such_module_anywhere")
    assert gc.isenabled()


# Each use is a fork of one process that has imported torch, most of what torchmetrics imports.
USES = """
import os, sys, torch
from rnn_lab.fast_import import fast_imports
for use in sys.argv[1:]:
    if os.fork() == 0:
        with fast_imports():
            exec(use)
        print("scipy.signal._signaltools" in sys.modules, flush=True)
        import scipy.signal
        scipy.signal.find_peaks([0, 1, 0])
        os._exit(0)
    assert os.wait()[1] == 0, use
"""


def test_scipy_signal_is_imported_only_where_it_is_used():
    uses = {
        "import torchmetrics": "False",
        "import torchmetrics; from scipy.signal import find_peaks; find_peaks([0, 1, 0])": "True",
        "import torchmetrics, scipy.signal.windows as w; w.hann(3)": "True",
    }
    command = [sys.executable, "-c", USES, *uses]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*uses.values()]
