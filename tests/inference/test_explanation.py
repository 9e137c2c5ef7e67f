import numpy as np
import pytest
import torch

from rnn_lab.data.bpe import SubwordTokenizer
from rnn_lab.data.characters import ByteTokenizer, CharacterTokenizer, split_characters
from rnn_lab.data.tokenizer_json import JsonTokenizer
from rnn_lab.errors import ConfigError
from rnn_lab.inference.batch_predict import classify
from rnn_lab.inference.explanation import (
    MAX_STEPS,
    MIN_STEPS,
    explain_text,
    gates_and_states,
    integrated_gradients,
)
from rnn_lab.reports.explain.explanation_data import read_explanation
from rnn_lab.reports.explain.page import render_page
from tests.data.made import word_piece
from tests.inference.untrained import untrained_run

TEXT = "The film was not bad, not bad at all."
NETWORKS = [
    {"name": "lstm"},
    {"name": "gru"},
    {"name": "rnn", "pooling": "mean"},
    {"name": "lstm", "bidirectional": True, "pooling": "max"},
    {"name": "gru", "num_layers": 2},
    {"name": "gru", "pooling": "last_max_mean"},
    {"name": "gru", "pooling": "attention"},
    {"name": "rnn", "num_layers": 2, "bidirectional": True},
]
THREE = ("neg", "so so", "pos")
TOKENS = np.array([2, 4, 5, 6, 7, 11, 3, 1, 4, 8, 9, 10, 12])


def explained(folder, run, text):
    explain_text(run, text).write(folder)
    return read_explanation(folder)


@pytest.mark.parametrize("network", [{"name": "gru"}, {"name": "lstm", "bidirectional": True}])
def test_the_verdict_so_far_is_that_of_the_words_so_far(tmp_path, network):
    run = untrained_run(**network)
    explanation = explained(tmp_path, run, TEXT)
    words = [word.text for word in explanation.words]
    assert words == ["the", "film", "was", "not", "bad", ",", "not", "bad", "at", "all", "."]
    for count in range(1, len(words) + 1):
        ids = run.text_encoder.encode(" ".join(words[:count]))
        (alone,) = classify(run, [ids], 1)
        np.testing.assert_allclose(explanation.probabilities[count - 1], alone, atol=1e-6)
    assert explanation.explained_name == run.class_names[alone.argmax()]
    assert explanation.completeness_error < 0.01


@pytest.mark.parametrize(
    ("side", "read"),
    [
        ("left", ["not", "bad", "at"]),
        ("middle", ["the", "bad", "at"]),
        ("right", ["the", "film", "was"]),
    ],
)
def test_words_beyond_max_length_are_kept_and_marked(tmp_path, side, read):
    run = untrained_run(max_length=3, truncation_side=side)
    explanation = explained(tmp_path, run, "the film was zzz not bad at")
    assert [word.text for word in explanation.words_read] == read
    assert len(explanation.words) == 7
    assert [word.text for word in explanation.words if not word.known] == ["zzz"]
    assert explanation.probabilities.shape == (3, 2)
    assert explanation.word_attributions.shape == (3,)


def test_a_text_without_a_word_is_one_unknown_word(tmp_path):
    explanation = explained(tmp_path, untrained_run(), '";"')
    (word,) = explanation.words_read
    assert (word.text, word.known) == ("<unk>", False)


def test_subwords_are_joined(tmp_path):
    texts = ["the film was not bad at all"] * 50
    vocabulary = SubwordTokenizer.train(texts, max_vocab_size=275, min_freq=1)
    run = untrained_run(vocabulary=vocabulary, max_length=9)
    explanation = explained(tmp_path, run, "Films: unbelievably <naïve>, not bad")
    words = [word.text for word in explanation.words]
    assert words == ["films", ":", "unbelievably", "<", "naïve", ">,", "not", "bad"]
    ids = run.text_encoder.encode("Films: unbelievably <naïve>, not bad")
    assert len(explanation.attributions) == len(ids) == 9
    first, *others = explanation.words_read
    assert first.start == 0 and others[-1].stop == 9
    assert sum(word.stop - word.start for word in explanation.words_read) == 9
    assert explanation.word_attributions.sum() == pytest.approx(explanation.attributions.sum())


@pytest.mark.parametrize(
    ("vocabulary", "words", "tokens"),
    [
        (CharacterTokenizer.train(["很好 की"], max_vocab_size=None, min_freq=1), "很好␣की", 4),
        (ByteTokenizer(), "很好␣की", 3 + 3 + 1 + 6),
        (JsonTokenizer(word_piece(["很", "好"])), "很好की", 3),
    ],
)
def test_characters_bytes_and_the_tokens_of_a_file_are_explained(
    tmp_path, vocabulary, words, tokens
):
    run = untrained_run(vocabulary=vocabulary)
    explanation = explained(tmp_path, run, "很好 की")
    assert "".join(word.text for word in explanation.words) == words
    assert len(explanation.words) == len(split_characters(words))
    assert len(explanation.attributions) == tokens
    assert explanation.word_attributions.sum() == pytest.approx(explanation.attributions.sum())
    assert [word.known for word in explanation.words][:2] == [True, True]


def test_gates_and_states_are_those_of_the_network():
    run = untrained_run(name="lstm", num_layers=2, bidirectional=True)
    tokens = run.text_encoder.encode(TEXT)
    values = gates_and_states(run, tokens)
    gates = ("f", "i", "C_tilde", "C", "o", "h")
    directions = ("0_forward", "0_backward", "1_forward", "1_backward")
    assert list(values) == [f"{where}_{gate}" for where in directions for gate in gates]
    with torch.no_grad():
        embedded = run.model.embed(torch.from_numpy(tokens)[None])
        outputs, _ = run.model.recurrent(embedded, torch.tensor([len(tokens)]))
    top = np.concatenate([values["1_forward_h"], values["1_backward_h"]], axis=1)
    np.testing.assert_allclose(top, outputs[0], atol=1e-5)
    C = values["0_forward_C"]  # noqa: N806
    kept = values["0_forward_f"][1:] * C[:-1]
    entered = values["0_forward_i"][1:] * values["0_forward_C_tilde"][1:]
    np.testing.assert_allclose(C[1:], kept + entered, atol=1e-5)


def logit_difference(network, embedded, target):
    """The logit of `target` less the mean of the others': float [batch]."""
    lengths = torch.full([len(embedded)], embedded.shape[1])
    logits = network.forward_embedded(embedded, lengths)
    others = [index for index in range(logits.shape[1]) if index != target]
    return logits[:, target] - logits[:, others].mean(dim=1)


@pytest.mark.parametrize("class_names", [("neg", "pos"), THREE])
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_shares_sum_to_the_logit_difference(network, class_names):
    model = untrained_run(class_names=class_names, **network).model
    target = len(class_names) - 1
    found = integrated_gradients(model, TOKENS, target)
    with torch.no_grad():
        embedded = model.embedding(torch.from_numpy(TOKENS))[None]
        difference, baseline = (
            logit_difference(model, end, target).item() for end in (embedded, 0 * embedded)
        )
    assert found.difference == pytest.approx(difference, abs=1e-5)
    assert found.baseline == pytest.approx(baseline, abs=1e-5)
    assert abs(difference - baseline) > 0.001
    assert found.tokens.sum() == pytest.approx(difference - baseline, rel=0.01)
    assert MIN_STEPS <= found.steps <= MAX_STEPS


def test_the_page_relates_calibrated_probabilities_to_logits(tmp_path):
    run = untrained_run(class_names=("neg", "pos"), name="gru")
    run.model.temperature.fill_(0.5)
    (plot := tmp_path / "prediction.png").write_bytes(b"")
    plots = {"prediction": plot}
    found = explained(tmp_path, run, TEXT)
    calibrated = 1 / (1 + np.exp(-found.logit_difference / found.temperature))
    assert found.explained_probability == pytest.approx(calibrated, rel=1e-5)
    assert "logits divided by the temperature, 0.50" in " ".join(render_page(found, plots).split())
    run.model.temperature.fill_(1)
    assert "temperature" not in render_page(explained(tmp_path, run, TEXT), plots)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_each_share_is_the_integral_of_its_gradient(network):
    """Sundararajan et al. 2017, equation 1, as a midpoint sum in float64."""
    run = untrained_run(class_names=THREE, **network)
    found = integrated_gradients(run.model, TOKENS, 0)
    double = run.model.double()
    embedded = double.embedding(torch.from_numpy(TOKENS))[None].detach()  # [1, time, embedding]
    steps = 500
    share = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    along = (share[:, None, None] * embedded).requires_grad_()  # [steps, time, embedding]
    logit_difference(double, along, 0).sum().backward()
    expected = (along.grad.mean(dim=0) * embedded[0]).sum(dim=1)  # [time]
    largest = expected.abs().max().item()
    np.testing.assert_allclose(found.tokens, expected, atol=0.01 * largest)


def test_one_token_has_the_whole_difference():
    model = untrained_run(name="gru").model
    found = integrated_gradients(model, np.array([7]), 1)
    assert found.tokens.shape == (1,)
    assert found.tokens[0] == pytest.approx(found.difference - found.baseline, rel=0.01)


def test_a_label_of_several_is_explained_by_its_own_logit(tmp_path):
    run = untrained_run(class_names=THREE, task="multilabel")
    tokens = run.text_encoder.encode(TEXT)
    with torch.no_grad():
        (logits,) = run.model(torch.from_numpy(tokens)[None], torch.tensor([len(tokens)]))
    explain_text(run, TEXT, "so so").write(tmp_path)
    explanation = read_explanation(tmp_path)
    assert explanation.explained_name == "so so"
    assert explanation.logit_difference == pytest.approx(logits[1].item(), abs=1e-5)
    assert explanation.completeness_error < 0.01
    assert explanation.labels == [THREE[i] for i in np.flatnonzero(logits >= 0)]
    with pytest.raises(ConfigError, match="label=good: is no class of the run"):
        explain_text(run, TEXT, "good")


def test_the_class_to_explain_may_be_another_than_the_prediction():
    run = untrained_run(class_names=THREE)
    explanation = explain_text(run, TEXT)
    other = next(name for name in THREE if name != explanation.prediction)
    against = explain_text(run, TEXT, other)
    assert against.prediction == explanation.prediction and against.explained == other
    assert not np.allclose(against.attributions, explanation.attributions)
