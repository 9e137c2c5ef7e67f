import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import validate_model
from rnn_lab.models.ngrams import NgramLinear

TEXTS = ["b c b", "c d e d c", "b", "e e e b c d"]  # id = place in the alphabet + 1
BUCKETS = 2**16


def encode(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = [[ord(word) - ord("a") + 1 for word in text.split()] for text in texts]
    lengths = torch.tensor([len(one) for one in ids])
    tokens = torch.zeros(len(ids), int(lengths.max()), dtype=torch.int64)
    for row, one in enumerate(ids):
        tokens[row, : len(one)] = torch.tensor(one)
    return tokens, lengths


@pytest.fixture
def layer() -> NgramLinear:
    layer = NgramLinear(2, BUCKETS, 3)
    layer.count([encode(TEXTS[:3]), encode(TEXTS[3:])])
    torch.nn.init.normal_(layer.weight)
    return layer


def tfidf() -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=PATTERN).fit(TEXTS)


def test_features_are_those_of_scikit_learn(layer):
    new = [*TEXTS, "b c c c f b", "f"]  # f is in no training text
    vectorizer = tfidf()
    expected = vectorizer.transform(new).toarray()
    weights = layer.weight.detach().numpy()
    of_ngram = np.stack(
        [weights[bucket_of(layer, ngram)] for ngram in vectorizer.get_feature_names_out()]
    )
    logits = layer(*encode(new)).detach().numpy()
    np.testing.assert_allclose(logits, 10 * expected @ of_ngram, rtol=1e-4, atol=1e-4)


def bucket_of(layer: NgramLinear, ngram: str) -> int:
    found = layer.occurrences(*encode([ngram]))
    return int(found.buckets[found.sizes == len(ngram.split())])


def test_different_ngrams_have_different_buckets(layer):
    names = tfidf().get_feature_names_out()
    assert len({bucket_of(layer, name) for name in names}) == len(names)
    # the order of words counts
    assert bucket_of(layer, "b c") != bucket_of(layer, "c b")


def test_padding_and_unknown_words_change_nothing(layer):
    tokens, lengths = encode(["c d"])
    padded = torch.cat([tokens, torch.tensor([[4, 1]])], dim=1)  # beyond the length
    torch.testing.assert_close(layer(padded, lengths), layer(tokens, lengths), rtol=0, atol=0)
    torch.testing.assert_close(
        layer(torch.tensor([[1, 3, 4, 1]]), torch.tensor([4])), layer(tokens, lengths)
    )


def test_a_text_without_known_words_has_no_logits(layer):
    assert layer(torch.tensor([[1]]), torch.tensor([1])).abs().max() == 0


def test_logits_do_not_depend_on_the_other_texts(layer):
    tokens, lengths = encode(TEXTS)
    together = layer(tokens, lengths)
    alone = torch.cat([layer(*encode([text])) for text in TEXTS])
    torch.testing.assert_close(together, alone)


def test_attributions_sum_to_the_logits(layer):
    for text in TEXTS:
        tokens, lengths = encode([text])
        shares = layer.attributions(tokens[0])
        torch.testing.assert_close(shares.sum(dim=0), layer(tokens, lengths)[0])


def test_a_word_is_attributed_what_its_ngrams_contribute(layer):
    """By hand: "b c": half of the bigram's contribution for each, besides its own."""
    tokens, _ = encode(["b c"])
    shares = layer.attributions(tokens[0])
    weight = layer.weight.detach()
    values = tfidf().transform(["b c"]).toarray()[0] * 10
    names = list(tfidf().get_feature_names_out())
    both = weight[bucket_of(layer, "b c")] * values[names.index("b c")]
    alone = weight[bucket_of(layer, "b")] * values[names.index("b")]
    torch.testing.assert_close(
        shares[0].double(), (alone + both / 2).double(), rtol=1e-4, atol=1e-4
    )


def test_the_classifier_adds_the_logits_of_both_paths():
    config = validate_model({"name": "gru", "embedding_dim": 4, "hidden_size": 5, "ngrams": 2})
    model = RecurrentClassifier(config, 10, 3).eval()
    assert model.ngrams is not None
    model.ngrams.count([encode(TEXTS)])
    torch.nn.init.normal_(model.ngrams.weight)
    tokens, lengths = encode(TEXTS)
    recurrent = model.forward_embedded(model.embed(tokens), lengths)
    torch.testing.assert_close(
        model(tokens, lengths), recurrent + model.ngrams(tokens, lengths), rtol=0, atol=0
    )
    assert not torch.equal(model(tokens, lengths), recurrent)


def test_word_dropout_hides_no_ngram():
    config = validate_model(
        {"name": "gru", "embedding_dim": 4, "hidden_size": 5, "ngrams": 1, "word_dropout": 0.9}
    )
    model = RecurrentClassifier(config, 10, 3).train()
    assert model.ngrams is not None
    model.ngrams.count([encode(TEXTS)])
    torch.nn.init.zeros_(model.linear.weight)
    torch.nn.init.normal_(model.ngrams.weight)
    tokens, lengths = encode(TEXTS)
    expected = model.ngrams(tokens, lengths) + model.linear.bias
    torch.testing.assert_close(model(tokens, lengths), expected)


PATTERN = r"(?u)\b\w\b"
LABELLED = [("b c b", 0), ("c d e d c", 1), ("b", 0), ("e e e b c d", 1), ("d b c", 2), ("c", 2)]


def fitted(num_classes: int, labels: torch.Tensor, weights=None) -> NgramLinear:
    layer = NgramLinear(2, BUCKETS, num_classes, is_fitted_first=True)
    texts = [text for text, _ in LABELLED]
    halves = [(*encode(texts[:4]), labels[:4]), (*encode(texts[4:]), labels[4:])]
    layer.fit(halves, weights)
    return layer


def naive_bayes_features(
    texts: list[str], of_class: np.ndarray, new: list[str]
) -> list[np.ndarray]:
    """Compute the features of Wang and Manning's equation 2 by hand, for `texts` and `new`."""
    vectorizer = CountVectorizer(ngram_range=(1, 2), token_pattern=PATTERN).fit(texts)
    counts = vectorizer.transform(texts).toarray()
    found = np.zeros(counts.shape[1])
    for members in of_class.T.astype(bool):
        p = 1.0 + (counts[members] > 0).sum(axis=0)
        q = 1.0 + (counts[~members] > 0).sum(axis=0)
        found = np.maximum(found, np.abs(np.log((p / p.sum()) / (q / q.sum()))))
    features = []
    for some in (texts, new):
        times = vectorizer.transform(some).toarray()
        values = found * (times > 0) * (1 + np.log(np.maximum(times, 1)))
        norms = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-30)
        features.append(values / norms)
    return features


NEW = ["b c c c b", "e", "d e b"]


@pytest.mark.parametrize("num_classes", [2, 3])
def test_naive_bayes_weights_are_those_of_a_regression_on_log_count_ratios(num_classes):
    labels = np.array([label for _, label in LABELLED]) % num_classes
    weights = np.arange(1, num_classes + 1) / 2
    known, new = naive_bayes_features(
        [text for text, _ in LABELLED], np.eye(num_classes)[labels], NEW
    )
    reference = LogisticRegression(C=30, fit_intercept=False, tol=1e-8, max_iter=1000)
    expected = reference.fit(known, labels, weights[labels]).predict_proba(new)
    layer = fitted(num_classes, torch.from_numpy(labels), torch.from_numpy(weights))
    found = layer(*encode(NEW)).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_naive_bayes_of_any_number_of_labels_has_a_regression_a_label():
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
    known, new = naive_bayes_features([text for text, _ in LABELLED], labels, NEW)
    found = fitted(3, torch.from_numpy(labels))(*encode(NEW)).sigmoid().numpy()
    for column in (0, 1):
        reference = LogisticRegression(C=30, fit_intercept=False, tol=1e-8, max_iter=1000)
        expected = reference.fit(known, labels[:, column]).predict_proba(new)[:, 1]
        np.testing.assert_allclose(found[:, column], expected, atol=2e-3)
    assert (found[:, 2] == 0.5).all()  # a label that no text has


def test_a_class_without_texts_gets_no_weight():
    layer = fitted(4, torch.tensor([label for _, label in LABELLED]))
    assert layer.weight[:, 3].abs().max() == 0
    assert layer.weight[:, :3].abs().max() > 0


def test_what_is_fitted_first_takes_no_part_in_training():
    options = {"name": "gru", "ngrams": 2, "ngram_buckets": BUCKETS, "dropout": 0.0}
    options |= {"word_dropout": 0.0, "ngram_weighting": "naive_bayes"}
    torch.manual_seed(0)
    model = RecurrentClassifier(validate_model(options), 10, 2)
    tokens, lengths = encode([text for text, _ in LABELLED])
    model.ngrams.fit([(tokens, lengths, torch.tensor([0, 1, 0, 1, 0, 1]))])
    alone = model(tokens, lengths)
    torch.testing.assert_close(model.eval()(tokens, lengths), alone + model.ngrams(tokens, lengths))
    assert "ngrams.weight" not in dict(model.named_parameters())
    assert "ngrams.weight" in model.state_dict()


def test_a_last_text_without_known_words_is_fitted_too():
    tokens, lengths = encode([text for text, _ in LABELLED])
    unknown = torch.ones(1, tokens.shape[1], dtype=torch.int64)
    layer = NgramLinear(2, BUCKETS, 2, is_fitted_first=True)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    layer.fit([(tokens, lengths, labels), (unknown, torch.tensor([2]), torch.tensor([1]))])
    assert layer(unknown, torch.tensor([2])).abs().max() == 0
    assert layer.weight.abs().max() > 0


def test_tokens_of_32_bits_are_the_same_ngrams(layer):
    tokens, lengths = encode(TEXTS)
    for one, other in zip(
        layer.occurrences(tokens.int(), lengths), layer.occurrences(tokens, lengths), strict=True
    ):
        assert torch.equal(one, other)
