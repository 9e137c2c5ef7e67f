import gc
import sys
from pathlib import Path

import pytest

from rnn_lab.fast_import import fast_imports, gc_disabled
from tests.cli.forked import run_warm_command

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
    gc.collect(0)  # the next collection is far off

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


# Each use is in a process of its own, which has imported torch and all that torchmetrics imports.
USE = """
import sys
import scipy
from rnn_lab.fast_import import fast_imports
for name in [*sys.modules]:
    if name.partition(".")[0] == "torchmetrics" or name.startswith("scipy.signal"):
        del sys.modules[name]
vars(scipy).pop("signal", None)
with fast_imports():
    exec(sys.argv[1])
print("scipy.signal._signaltools" in sys.modules)
import scipy.signal
scipy.signal.find_peaks([0, 1, 0])
"""


@pytest.mark.parametrize(
    ("use", "is_imported"),
    [
        ("import torchmetrics", False),
        ("import torchmetrics; from scipy.signal import find_peaks; find_peaks([0, 1, 0])", True),
        ("import torchmetrics, scipy.signal.windows as w; w.hann(3)", True),
    ],
)
def test_scipy_signal_is_imported_only_where_it_is_used(use, is_imported, tmp_path):
    done = run_warm_command("tests/cli/run_code.py", USE, use, cwd=tmp_path)
    assert (done.stdout, done.returncode) == (f"{is_imported}\n", 0), done.stderr
