"""Attributions of the test examples with the highest loss."""

import pickle

import numpy as np
import pytest

from rnn_lab.errors import CheckpointError
from rnn_lab.inference.top_losses import attribute_top_losses, explained_class
from rnn_lab.runs.predictions import HighLossExample, TopLoss, read_top_losses
from tests.conftest import MOODS


def example(label: str, prediction: str, text: str = "x") -> TopLoss:
    return TopLoss(HighLossExample("test/1", label, prediction, 0.9, 2.0), text)


def test_words_of_a_mood_speak_for_it(mood_run):
    texts = [f"the {word} film" for word in MOODS.values()]
    found = [example("bad", mood, text) for mood, text in zip(MOODS, texts, strict=True)]
    checkpoint = mood_run / "checkpoints" / "best.ckpt"
    attributed = list(attribute_top_losses(checkpoint, found))
    assert [one.explained for one in attributed] == list(MOODS)
    for one in attributed:
        assert one.words[0][0] == "the"
        assert int(np.argmax(one.attributions)) == 1


def test_it_explains_what_the_run_wrote(mood_run):
    (first,) = read_top_losses(mood_run)[:1]
    checkpoint = mood_run / "checkpoints" / "best.ckpt"
    (attributed,) = attribute_top_losses(checkpoint, [first])
    assert attributed.explained == first.example.prediction
    assert attributed.probability == pytest.approx(first.example.probability, abs=0.02)
    assert len(attributed.words) == len(attributed.attributions)


def test_a_checkpoint_with_code_is_refused(tmp_path):
    class Code:
        def __reduce__(self):
            return (tmp_path.rmdir, ())

    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(pickle.dumps(Code()))
    with pytest.raises(CheckpointError, match=r"best\.ckpt"):
        next(attribute_top_losses(checkpoint, [example("a", "b")]))
    assert checkpoint.exists()


@pytest.mark.parametrize(
    ("label", "prediction", "explained"),
    [
        ("a", "b, c", "b, c"),  # one label a text: the prediction, whose name may have a comma
        ('["a", "d"]', '["a"]', "d"),  # missed
        ("[]", '["a", "b, c"]', "a"),  # of two wrong ones the one with the greater error
        ("a", "a", "a"),
        ("[]", "[]", "a"),  # nothing is wrong: the greatest error
        ("e", "f", "a"),  # names that the checkpoint does not have
        ('["e"', "7", "a"),
    ],
)
def test_of_several_labels_the_one_with_the_greatest_error(label, prediction, explained):
    names = ["a", "b, c", "d"]
    probabilities = np.array([0.9, 0.6, 0.2])
    target = explained_class(example(label, prediction), names, probabilities)
    assert names[target] == explained


@pytest.mark.parametrize(
    ("label", "prediction", "explained"), [("a, d", "a", "d"), ("", "a, b", "a"), ("b", "", "b")]
)
def test_several_labels_without_commas_in_their_names(label, prediction, explained):
    target = explained_class(example(label, prediction), ["a", "b", "d"], np.array([0.9, 0.6, 0.2]))
    assert "abd"[target] == explained
