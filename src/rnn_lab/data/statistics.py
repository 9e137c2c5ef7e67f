"""Lengths, unknown tokens and truncation of the texts of a run, and warnings about them."""

from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from rnn_lab.data.encode import EncodedSplit
from rnn_lab.data.tokenizer_base import find_tokenizer
from rnn_lab.data.vocabulary import UNK_ID

UNKNOWN_WARNING = 0.2  # share of the validation tokens
SHORT_WARNING = 2  # tokens: the median length of the training texts
_CHUNK = 2**12  # texts whose ids are read at a time


class TextStatistics(TypedDict):
    """What tokenizer, vocabulary and data.max_length make of the texts of a split."""

    examples: int
    median_length: float  # tokens, before truncation
    max_length: int  # the same of the longest text
    unknown: float  # share of the tokens that are <unk>, before truncation
    truncated: float  # share of the texts that are longer than data.max_length


def text_statistics(split: EncodedSplit, max_length: int) -> TextStatistics:
    """Return the statistics of a split that has texts, from the ids of its texts alone."""
    lengths = split.lengths
    return {
        "examples": len(split),
        "median_length": float(np.median(lengths)),
        "max_length": int(lengths.max()),
        "unknown": _count_unknown(split) / int(lengths.sum()),
        "truncated": float((lengths > max_length).mean()),
    }


def _count_unknown(split: EncodedSplit) -> int:
    order = np.argsort(split.starts, kind="stable")  # the order of the file
    unknown = 0
    for first in range(0, len(order), _CHUNK):
        rows = order[first : first + _CHUNK]
        starts = split.starts[rows]
        spans = np.stack([starts, starts + split.lengths[rows]], axis=1) - starts[0]
        # One more, since `reduceat` accepts no index after the last element.
        is_unknown = np.append(split.ids[starts[0] : starts[0] + spans.max()] == UNK_ID, False)
        # Of each span and each gap between two.
        counts = np.add.reduceat(is_unknown, spans.ravel(), dtype=np.int64)
        unknown += int(counts[::2].sum())
    return unknown


def text_warnings(statistics: Mapping[str, TextStatistics], tokenizer: str) -> list[str]:
    """Return a line for each problem that another tokenizer would solve; mostly none.

    Args:
        statistics: of the splits, by name; "train" and "validation" are read.
        tokenizer: of the run, data.tokenizer.
    """
    lines = []
    unit = find_tokenizer(tokenizer).unit
    held_out = statistics.get("validation")
    if held_out is not None and held_out["unknown"] > UNKNOWN_WARNING:
        what, advice = "words", "data.tokenizer=bpe (subwords) or char reads their parts"
        if unit == "character":
            what = "characters"
            advice = "data.max_vocab_size=null keeps more of them, data.tokenizer=byte reads any"
        elif unit == "subword":
            what = "tokens"
            advice = "data.tokenizer=bpe learns its tokens from the training texts"
        share = f"{100 * held_out['unknown']:.0f} %"
        lines.append(f"{share} of the validation tokens are unknown {what}. {advice}")
    median = statistics["train"]["median_length"]
    if median <= SHORT_WARNING and unit != "character":
        count = f"{median:g} token{'' if median == 1 else 's'}"
        finer = "bpe (subwords) or char" if unit == "word" else "char"
        lines.append(
            f"Half of the training texts have at most {count}. If spaces do not separate their "
            f"words, data.tokenizer={finer} cuts them"
        )
    return lines
