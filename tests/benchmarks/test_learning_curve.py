"""The learning curve keeps its measurements, and makes the missing ones alone."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import learning_curve
from benchmarks.learning_curve import Job, Point, Results, Reviews, all_jobs, table_of
from rnn_lab.data.config import DemoConfig
from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.sources.registry import load_corpus

POINT = Point("gru", 100, 1, ("model=gru",), 0.7, 0.69, 3.0, "a machine")
ABOUT = {"name": "imdb", "fingerprint": "f", "sizes": {"train": 25_000, "test": 9, "unlabelled": 5}}


def options(**given: object) -> Namespace:
    default = {"methods": ["tfidf", "gru"], "experiments": [], "sizes": [300, 100], "seeds": [1, 2]}
    return Namespace(**default | {"override": [], "threads": 1, "language_model": None} | given)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Reviews:
    folder = tmp_path_factory.mktemp("reviews")
    corpus = load_corpus(DemoConfig(num_train=200, num_test=50))
    films = np.arange(200) // 2
    train = replace(corpus.train, groups=films)
    corpus = Corpus(corpus.name, corpus.class_names, train, test=corpus.test)
    learning_curve.write_reviews(folder, corpus, ["a film", "another,\n film"])
    sizes = json.loads((folder / "sizes.json").read_text())
    assert sizes == {"train": 200, "test": 50, "unlabelled": 2}
    return Reviews("demo", corpus.fingerprint, folder, sizes, has_films=True)


def test_mean_and_standard_deviation_are_those_of_the_seeds(tmp_path: Path) -> None:
    results = Results(tmp_path / "x" / "curve.json", ABOUT)
    for seed, accuracy in ((1, 0.70), (2, 0.72), (3, 0.77), (4, 0.1)):
        results.add(replace(POINT, seed=seed, accuracy=accuracy))
    results.add(replace(POINT, size=300, accuracy=0.8))
    read = Results.read(tmp_path / "x" / "curve.json", None)
    assert (read.description, read.points) == (ABOUT, results.points)
    (curve,) = read.curves(["tfidf", "gru"], [1, 2, 3])
    assert curve.sizes == [100, 300]
    assert curve.means == pytest.approx([0.73, 0.8])
    assert curve.spreads == pytest.approx([np.std([0.70, 0.72, 0.77], ddof=1), 0])
    header, rows = table_of([curve, curve._replace(name="other", sizes=[50, 100])])
    assert header == ["method", "50", "100", "300"]
    assert rows == [
        ["GRU, random vectors", "-", "73.0 ± 3.6", "80.0"],
        ["other", "73.0 ± 3.6", "80.0", "-"],
    ]


def test_other_options_replace_a_measurement_and_other_reviews_are_refused(
    tmp_path: Path, reviews: Reviews
) -> None:
    path = tmp_path / "curve.json"
    results = Results.read(path, reviews)
    results.add(POINT)
    job = Job("gru", 100, 1, ("model=gru",))
    assert results.has(job)
    other = job._replace(options=("model=gru", "model.hidden_size=9"))
    assert not results.has(other)
    results.add(replace(POINT, options=other.options))
    assert results.has(other) and not results.has(job) and len(results.points) == 1
    assert Results.read(path, reviews).points == results.points
    with pytest.raises(SystemExit, match=r"measurements on other reviews; name another --results"):
        Results.read(path, replace(reviews, fingerprint="another"))
    with pytest.raises(SystemExit, match="no such file"):
        Results.read(tmp_path / "none.json", None)


def test_small_numbers_of_reviews_come_first_and_too_large_ones_are_named(
    reviews: Reviews, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = options(sizes=[100, 300, 50], experiments=["smoke"], override=["model.dropout=0"])
    jobs = list(all_jobs(asked, reviews))
    assert [(job.method, job.size, job.seed) for job in jobs[:6]] == [
        (method, 50, seed) for method in ("tfidf", "gru", "smoke") for seed in (1, 2)
    ]
    assert {job.size for job in jobs} == {50, 100}
    assert {job.method: job.options for job in jobs} == {
        "tfidf": (),
        "gru": ("model=gru", "model.dropout=0"),
        "smoke": ("experiment=smoke", "model.dropout=0"),
    }
    assert capsys.readouterr().err == "300: there are 200 reviews\n"


def test_both_baselines_are_measured_at_once_and_kept(tmp_path: Path, reviews: Reviews) -> None:
    results = Results.read(tmp_path / "curve.json", reviews)
    asked = options(methods=["tfidf", "nbsvm"], sizes=[40], cache_dir=tmp_path / "cache")
    learning_curve.measure_missing(asked, reviews, results)
    found = {(point.method, point.seed): point for point in results.points}
    assert found.keys() == {(method, seed) for method in ("tfidf", "nbsvm") for seed in (1, 2)}
    assert all(0.4 < point.accuracy <= 1 for point in found.values())
    # Another seed draws other reviews, and the same one the same.
    again = Results(tmp_path / "again.json", reviews.description)
    learning_curve.measure_missing(asked, reviews, again)
    timeless = [[replace(p, seconds=0.0) for p in r.points] for r in (results, again)]
    assert timeless[0] == timeless[1]


def test_the_files_have_the_texts_labels_and_films(reviews: Reviews, tmp_path: Path) -> None:
    corpus = load_corpus(
        learning_curve.FilesConfig(**reviews.options, cache_dir=str(tmp_path / "cache"))
    )
    demo = load_corpus(DemoConfig(num_train=200, num_test=50))
    assert corpus.test is not None and demo.test is not None
    for found, wanted in ((corpus.train, demo.train), (corpus.test, demo.test)):
        assert isinstance(found, Split)
        assert list(found.texts) == list(wanted.texts)
        names = [[c.class_names[i] for i in s.labels] for c, s in ((corpus, found), (demo, wanted))]
        assert names[0] == names[1]
    assert corpus.train.groups is not None
    assert len(np.unique(corpus.train.groups)) == 100
