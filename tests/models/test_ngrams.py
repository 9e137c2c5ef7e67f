import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

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
    pattern = r"(?u)\b\w\b"
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern).fit(TEXTS)


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
