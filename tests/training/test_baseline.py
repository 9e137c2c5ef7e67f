import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.sources.lists import ListsConfig, corpus_from_lists, store_corpus
from rnn_lab.data.sources.text_files import FilesConfig
from rnn_lab.training.baseline import fit_baselines, wants_baselines
from rnn_lab.training.train import baselines
from tests.test_conf import composed

WORDS = ("good", "fine", "bad", "poor", "dull", "film", "plot", "it", "was", "not")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> TextDataModule:
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        label = int(rng.random() < 0.3)
        likely = np.where(np.isin(WORDS, ("good", "fine")) == bool(label), 1.5, 1.0)
        words = rng.choice(WORDS, 6, p=likely / likely.sum())
        rows.append(f"{' '.join(words)},{'good' if label else 'bad'}")
    (folder / "mine.csv").write_text("\n".join(["text,label", *rows]))
    config = FilesConfig(train_path=str(folder / "mine.csv"), cache_dir=str(folder / "cache"))
    module = TextDataModule(config)
    module.setup()
    return module


def test_scores_are_those_of_scikit_learn_on_the_same_splits(data):
    found = fit_baselines(data, test=True)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    texts, labels = data.texts_of("train")
    classifier = LogisticRegression(C=10, max_iter=1000).fit(
        vectorizer.fit_transform(texts), labels
    )
    for split, prefix in (("validation", "val/"), ("test", "test/")):
        texts, labels = data.texts_of(split)
        predicted = classifier.predict(vectorizer.transform(texts))
        tfidf = found["tfidf"]
        assert tfidf[f"{prefix}accuracy"] == pytest.approx(accuracy_score(labels, predicted))
        assert tfidf[f"{prefix}f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
        most = max(np.mean(labels == 0), np.mean(labels == 1))
        assert found["majority"][f"{prefix}accuracy"] == pytest.approx(most)


def test_the_test_split_is_not_read_where_the_run_does_not_read_it(data):
    assert not [name for name in fit_baselines(data, test=False)["tfidf"] if "test" in name]


def test_texts_without_spaces_are_compared_by_characters(tmp_path):
    rows = [
        f"{'这家店的味道非常好' if i % 2 else '送来的菜实在太难吃'}{chr(0x4E00 + i)},{i % 2}"
        for i in range(60)
    ]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    config = FilesConfig(train_path=str(tmp_path / "mine.csv"), cache_dir=str(tmp_path / "cache"))
    module = TextDataModule(config)
    module.setup()
    assert fit_baselines(module, test=True)["tfidf"]["test/accuracy"] == 1.0


def test_own_texts_have_a_baseline_unless_told_otherwise(data):
    assert wants_baselines("auto", data)
    assert wants_baselines("tfidf", data)
    assert not wants_baselines("none", data)


def test_any_number_of_labels_has_one_regression_each(tmp_path):
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "c"])
    labels = rng.random((200, 3)) < (0.5, 0.3, 0.2)
    words = [" ".join([*rng.choice(["x", "y", "z"], 4), *names[row]]) for row in labels]
    corpus = corpus_from_lists(words, [list(names[row]) for row in labels])
    folder = store_corpus(corpus, tmp_path)
    module = TextDataModule(ListsConfig(corpus=str(folder), cache_dir=str(tmp_path)))
    module.setup()
    found = fit_baselines(module, test=True)
    names_of_metrics = {"accuracy", "f1", "f1_micro", "map"}
    assert found["tfidf"].keys() == {
        *(f"{split}/{name}" for split in ("val", "test") for name in names_of_metrics),
        "wall_time_s",
    }
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
    texts, labels = module.texts_of("train")
    features = vectorizer.fit_transform(texts)
    each = [LogisticRegression(C=10, max_iter=1000).fit(features, y) for y in labels.T]
    texts, labels = module.texts_of("validation")
    features = vectorizer.transform(texts)
    scores = np.stack([one.predict_proba(features)[:, 1] for one in each], axis=1)
    tfidf = found["tfidf"]
    assert tfidf["val/f1"] == pytest.approx(f1_score(labels, scores >= 0.5, average="macro"))
    assert tfidf["val/map"] == pytest.approx(average_precision_score(labels, scores))
    assert tfidf["test/f1_micro"] > 0.9
    assert found["majority"]["val/f1"] < 0.5


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ("limit_test_batches=1", "limit_test_batches=1"),
        ("limit_val_batches=0.5", "limit_val_batches=0.5"),
        ("overfit_batches=1", "overfit_batches=1"),
    ],
)
def test_texts_that_the_run_leaves_out_are_not_compared(data, capsys, given, limit):
    config = composed("data=demo", "baseline=tfidf", f"trainer.{given}")
    assert baselines(config, data) == {}
    said = f"no baselines: they would read texts that trainer.{limit} leaves out\n"
    assert capsys.readouterr().out == said
    untested = composed("data=demo", "baseline=tfidf", "trainer.limit_test_batches=1", "test=false")
    assert "test/accuracy" not in baselines(untested, data)["baseline"]["tfidf"]
