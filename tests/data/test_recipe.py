import numpy as np
import pytest

from rnn_lab.data.recipe import resolve_sizes
from rnn_lab.data.sources.imdb import ImdbConfig
from rnn_lab.data.sources.text_files import FilesConfig


def lengths(examples: int, longest: int = 100) -> np.ndarray:
    return np.linspace(1, longest, examples).astype(np.int64)


def test_imdb_keeps_the_recipe_of_its_published_metrics():
    found = resolve_sizes(ImdbConfig(), lengths(22_500, 2_000))
    assert (found.max_length, found.truncation_side, found.batch_size) == (400, "left", 64)


@pytest.mark.parametrize(
    ("examples", "batch_size"), [(180, 16), (1_000, 16), (2_000, 32), (10_001, 64)]
)
def test_few_texts_have_small_batches(examples, batch_size):
    assert resolve_sizes(FilesConfig(), lengths(examples)).batch_size == batch_size


@pytest.mark.parametrize(
    ("examples", "longest", "max_length"),
    [(500, 5, 16), (500, 100, 98), (500, 4_000, 1_000), (5_000, 4_000, 600), (20_000, 900, 400)],
)
def test_one_text_in_fifty_is_cut_and_the_longest_by_their_number(examples, longest, max_length):
    assert resolve_sizes(FilesConfig(), lengths(examples, longest)).max_length == max_length


def test_an_option_that_is_given_is_kept():
    given = FilesConfig(batch_size=7, truncation_side="left")
    found = resolve_sizes(given, lengths(500))
    assert (found.batch_size, found.truncation_side, found.max_length) == (7, "left", 98)


def test_a_batch_of_tokens_holds_the_longest_text():
    found = resolve_sizes(FilesConfig(max_tokens_per_batch=50), lengths(500))
    assert found.max_length == 50
