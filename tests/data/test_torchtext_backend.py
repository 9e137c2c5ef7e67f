"""With torchtext installed: data.tokenizer=torchtext gives the same results as basic_english."""

import numpy as np

from rnn_lab.data.config import ImdbConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.encode import encode_corpus, fit_vocabulary
from rnn_lab.data.torchtext_backend import TorchtextTokenizer
from rnn_lab.data.vocabulary import UNK_ID, WordTokenizer


def test_the_recorded_answers_are_those_of_torchtext(golden, answers) -> None:
    for name, answer in answers.items():
        recorded = golden["imdb"][name]
        assert (recorded | answer if isinstance(answer, dict) else answer) == recorded


def test_every_id_equals_ours_in_a_fifth_of_imdb(imdb_corpus, tmp_path) -> None:
    """test_vocabulary.py compares the ids of all of it with torchtext's own."""
    fifth = np.arange(0, 25_000, 5)
    splits = {name: imdb_corpus.splits[name].take(fifth) for name in ("train", "test")}
    corpus = Corpus("imdb", imdb_corpus.class_names, **splits)
    rows = np.flatnonzero(np.arange(len(fifth)) % 10)
    fitted, encoded = [], []
    for tokenizer in ("torchtext", "basic_english"):
        config = ImdbConfig(cache_dir=str(tmp_path), tokenizer=tokenizer)
        fitted.append(fit_vocabulary(corpus, rows, config))
        encoded.append(encode_corpus(corpus, fitted[-1], tmp_path))
    assert [type(vocabulary) for vocabulary in fitted] == [TorchtextTokenizer, WordTokenizer]
    assert fitted[0].state() == fitted[1].state()
    assert len(fitted[0]) == 30_000
    for name in ("train", "test"):
        theirs, ours = (splits[name] for splits in encoded)
        assert len(ours) == len(fifth)
        np.testing.assert_array_equal(theirs.ids, ours.ids)
        np.testing.assert_array_equal(theirs.starts, ours.starts)
        np.testing.assert_array_equal(theirs.lengths, ours.lengths)


def test_what_has_no_utf8_is_a_word_like_any_other() -> None:
    vocabulary = TorchtextTokenizer.train(["good a\ud800b good"], max_vocab_size=None, min_freq=1)
    assert vocabulary.state() == ["<pad>", "<unk>", "good", "a\ufffdb"]
    (ids,) = vocabulary.encode_all(["good \udc80 a\ud800b"])
    assert ids.tolist() == [2, UNK_ID, 3]
