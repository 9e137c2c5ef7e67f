import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight

from rnn_lab.data.class_balance import is_uneven, resolve_class_weights
from rnn_lab.data.config import DemoConfig
from rnn_lab.errors import ConfigError

NAMES = ("bad", "good", "so so")


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.random.default_rng(0).choice(3, 500, p=[0.9, 0.02, 0.08])
    weights = resolve_class_weights("balanced", labels, NAMES)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert weights == pytest.approx(expected)
    assert weights[labels].mean() == pytest.approx(1)


def test_a_class_without_training_texts_has_no_weight() -> None:
    labels = np.array([0, 0, 0, 2])
    weights = resolve_class_weights("balanced", labels, NAMES)
    expected = compute_class_weight("balanced", classes=np.array([0, 2]), y=labels)
    assert weights.tolist() == pytest.approx([expected[0], 0, expected[1]])


def test_listed_weights_are_in_the_order_of_the_classes() -> None:
    labels = np.array([0, 1, 2])
    assert resolve_class_weights((1.0, 2.5, 4.0), labels, NAMES).tolist() == [1.0, 2.5, 4.0]
    assert resolve_class_weights(None, labels, NAMES) is None
    with pytest.raises(ConfigError) as refused:
        resolve_class_weights((1.0, 2.0), labels, NAMES)
    assert str(refused.value) == (
        "data.class_weights has 2 weights for 3 classes; give one for each class, in this order: "
        "bad, good, so so"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": "even"}, "balanced"),
        ({"class_weights": [1, 0]}, "a list of positive numbers"),
        ({"class_weights": [1, float("inf")]}, "a list of positive numbers"),
        ({"class_weights": {"a": 1, "b": 2}}, "a list of positive numbers, one for each class"),
        ({"class_weights": "balanced", "weighted_sampling": True}, "choose one of the two"),
    ],
)
def test_impossible_options_are_refused(options, message) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        DemoConfig(**options)
    assert len(refused.value.errors()) == 1


@pytest.mark.parametrize(
    ("counts", "uneven"),
    [((30, 10), False), ((31, 10), True), ((90, 10), True), ((9, 8, 10), False), ((9, 0), False)],
)
def test_uneven_is_over_three_times_the_smallest_class(counts, uneven) -> None:
    assert is_uneven(np.array(counts)) is uneven
