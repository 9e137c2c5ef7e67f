"""Fixtures of the tests of tokens, vocabularies and encoded texts."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from rnn_lab.data.config import ImdbConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.sources.imdb import load_imdb
from rnn_lab.data.tokenize import TokenizedCorpus, tokenize_corpus
from tests.cli.runner import PROJECT
from tests.data.torchtext_answers import INSTALLED, answers_on_imdb

# Tests that need torchtext itself.
collect_ignore = [] if INSTALLED else ["test_torchtext_backend.py"]


@pytest.fixture(scope="session")
def golden() -> dict:
    """The recorded results of the real torchtext 0.18 for known texts and IMDB."""
    path = PROJECT.parent / "shared" / "golden" / "torchtext_basic_english.json"
    if not path.exists():
        pytest.skip(f"the recorded results of torchtext are not at {path}")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def answers(request: pytest.FixtureRequest, shared_folder: Path) -> dict:
    """The results of torchtext for IMDB: computed if it is installed, else recorded."""
    if not INSTALLED:
        return request.getfixturevalue("golden")["imdb"]
    corpus, path = request.getfixturevalue("imdb_corpus"), shared_folder / "torchtext.json"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            path.write_text(json.dumps(answers_on_imdb(corpus)), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def imdb_cache(shared_folder: Path) -> Path:
    return shared_folder / "imdb-cache"


@pytest.fixture(scope="session")
def imdb_corpus(imdb_root: Path, imdb_cache: Path) -> Corpus:
    return load_imdb(ImdbConfig(root=str(imdb_root), cache_dir=str(imdb_cache)))


@pytest.fixture(scope="session")
def tokenized_imdb(imdb_corpus: Corpus, imdb_cache: Path) -> TokenizedCorpus:
    return tokenize_corpus(imdb_corpus, imdb_cache)
