"""What the tests of many modules need."""

import contextlib
import csv
import logging
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from rnn_lab.fast_import import fast_imports
from tests.cli.forked import run_warm_command, serving
from tests.cli.runner import PROJECT
from tests.reports.chromium import Chromium, find_chromium

# Set before torch is imported, for this process and the commands that the tests run: tensors here
# are so small that a second thread costs more than it saves.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hundreds of processes import the same modules: the first one compiles, for all.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# And commands that are started with -m find the package and the tests of this checkout.
os.environ["PYTHONPATH"] = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])

MOODS = {"bad": "awful", "good": "lovely", "so so": "passable"}


@pytest.hookimpl(tryfirst=True)  # before xdist starts the processes that test
def pytest_sessionstart(session: pytest.Session) -> None:
    """Have one server of commands for all processes that test together."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        stack = contextlib.ExitStack()
        stack.enter_context(serving())
        session.config.add_cleanup(stack.close)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Import what the tests import, as a command does."""
    with fast_imports():
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: at the end, one core would wait for the other.

    First those with slow tests, then those that run commands or a browser.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    starts = {item.path for item in items if _starts_processes(item)}
    items.sort(key=lambda item: (item.path not in slow, item.path not in starts))


def _starts_processes(item: pytest.Item) -> bool:
    names = {"run_command", "run_warm_command", "Started", "browser"}
    return isinstance(item, pytest.Function) and not names.isdisjoint(
        (*vars(item.module), *item.fixturenames)
    )


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Restore the root logger: a test may configure it in this process, as Hydra does."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def imdb_root() -> Path:
    """The real IMDB reviews: $IMDB_ROOT, or ../shared/data beside the project."""
    root = Path(os.environ.get("IMDB_ROOT", PROJECT.parent / "shared" / "data"))
    if not any((root / name).exists() for name in ("aclImdb", "aclImdb_v1.tar.gz")):
        pytest.skip(f"IMDB is not in {root}; set IMDB_ROOT to the folder that holds it")
    return root


@pytest.fixture(scope="session")
def own_texts() -> Path:
    """Real labelled texts of many shapes: $OWN_TEXTS_ROOT, or ../shared/data/own_texts."""
    default = PROJECT.parent / "shared" / "data" / "own_texts"
    root = Path(os.environ.get("OWN_TEXTS_ROOT", default))
    if not root.is_dir():
        pytest.skip(f"the labelled texts are not in {root}; set OWN_TEXTS_ROOT to their folder")
    return root


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes that test together, for what takes long to make."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def mood_reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 400 texts in three classes that one word tells apart."""
    rng = random.Random(0)
    filler = ["the", "film", "was", "an", "actor", "spoke", "scene", "music", "ended", "then"]
    path = tmp_path_factory.mktemp("moods") / "moods.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "label"])
        for _ in range(400):
            label = rng.choice(list(MOODS))
            words = rng.choices(filler, k=rng.randint(1, 20))
            words.insert(rng.randrange(len(words) + 1), MOODS[label])
            writer.writerow([" ".join(words), label])
    return path


@pytest.fixture(scope="session")
def mood_run(
    mood_reviews: Path, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a small GRU that train.py trained on `mood_reviews`.

    It is trained once for all processes that test; each has a copy of its own.
    """
    shared = shared_folder / "trained_moods"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            shared.mkdir()
            _train_on_moods(mood_reviews, shared)
    cwd = shutil.copytree(shared, tmp_path_factory.mktemp("mood_run") / "cwd")
    return cwd / "run"


def _train_on_moods(reviews: Path, cwd: Path) -> None:
    done = run_warm_command(
        "train.py",
        *("data=files", f"data.train_path={reviews}", "model=gru", "logger=none", "trainer=cpu"),
        *("model.hidden_size=16", "model.embedding_dim=16", "optimizer.lr=0.03"),
        *("trainer.max_epochs=4", "data.batch_size=16", "hydra.run.dir=run"),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A headless Chromium; skips where none is installed."""
    program = find_chromium()
    if program is None:
        pytest.skip(
            "no Chromium or Chrome here to open the page in; on Debian: apt install chromium"
        )
    chromium = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()
