"""The test examples with the highest loss, their words coloured by attribution where known."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rnn_lab.reports.explain.page import Shade, is_right_to_left, shade
from rnn_lab.reports.formatting import format_count
from rnn_lab.runs.predictions import HighLossExample, TopLoss

MAX_SECONDS = 30.0  # for all attributions; the last one that starts within them is finished
MAX_WORDS = 1_000  # that are shown of a text
MAX_TRUNCATED = 40  # of them on either side of those that were read
MAX_STRONGEST = 5  # words listed for and against
LEVELS = 20  # of the colours, on either side
DARK_PAPER = "#22262B"  # of words in the dark scheme


@dataclass(frozen=True)
class AttributedText:
    """The attribution of each word of one text to the explained class."""

    explained: str
    probability: float  # of that class
    words: list[tuple[str, bool, bool]]  # text; is in the vocabulary; was read, not truncated
    attributions: list[float]  # one a word; 0 of a truncated one


# Yields the attributions of examples, by the checkpoint at a path, one by one.
Attribute = Callable[[Path, Sequence[TopLoss]], Iterator[AttributedText]]


@dataclass(frozen=True)
class ShownWord:
    """One word on the page."""

    text: str
    classes: str  # of CSS: the level of its colour, and "unknown" or "truncated"


@dataclass(frozen=True)
class ShownExample:
    """One example on the page."""

    example: HighLossExample
    right_to_left: bool
    words: list[ShownWord]
    before: int = 0  # words that are not shown, before and after these
    after: int = 0
    explained: str | None = None  # the class of the attributions; None: words have no colours
    probability: float | None = None
    strongest: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Examples:
    """Which of the examples are shown, and how."""

    most: int = 10
    attribute: Attribute | None = None  # None: words have no colours

    def plain(self, found: Sequence[TopLoss]) -> list[ShownExample]:
        """Return the first of the examples, without colours."""
        return [_plain(one) for one in found[: self.most]]

    def coloured(
        self, found: Sequence[TopLoss], checkpoint: Path
    ) -> tuple[list[ShownExample], str]:
        """Return the first of the examples, and why some have no colours, or "".

        Raises:
            CheckpointError: the checkpoint cannot be used.
        """
        if self.attribute is None:
            return self.plain(found), ""
        chosen = found[: self.most]
        until = time.monotonic() + MAX_SECONDS
        shown: list[ShownExample] = []
        attributed = self.attribute(checkpoint, chosen)
        for one in chosen:
            if time.monotonic() > until:
                break
            shown.append(_coloured(one, next(attributed)))
        late = chosen[len(shown) :]
        note = ""
        if late:
            texts = format_count(len(late), "text")
            note = f"The last {texts} have no colours: attributions took {MAX_SECONDS:.0f} s."
        return [*shown, *map(_plain, late)], note


def _plain(one: TopLoss) -> ShownExample:
    words = one.text.split()
    shown = [ShownWord(word, "") for word in words[:MAX_WORDS]]
    after = len(words) - len(shown)
    return ShownExample(one.example, is_right_to_left(one.text), shown, after=after)


def _coloured(one: TopLoss, found: AttributedText) -> ShownExample:
    scale = max(map(abs, found.attributions), default=0.0)
    words = [
        ShownWord(text, _classes(known, read, attribution / (scale or 1.0)))
        for (text, known, read), attribution in zip(found.words, found.attributions, strict=True)
    ]
    read = [
        (text, attribution)
        for (text, _, is_read), attribution in zip(found.words, found.attributions, strict=True)
        if is_read
    ]
    ordered = sorted(read, key=lambda pair: pair[1])
    against = [pair for pair in ordered[:MAX_STRONGEST] if pair[1] < 0]
    strongest = [pair for pair in ordered[::-1][:MAX_STRONGEST] if pair[1] > 0] + against[::-1]
    first, last = _shown_range([is_read for _, _, is_read in found.words])
    return ShownExample(
        one.example,
        is_right_to_left(one.text),
        words[first:last],
        before=first,
        after=len(words) - last,
        explained=found.explained,
        probability=found.probability,
        strongest=strongest,
    )


def _shown_range(is_read: Sequence[bool]) -> tuple[int, int]:
    """Return the first word to show and the end: those that were read, and some around them."""
    rows = [i for i, one in enumerate(is_read) if one] or [0]
    first = max(0, rows[0] - MAX_TRUNCATED)
    return first, min(len(is_read), rows[-1] + 1 + MAX_TRUNCATED, first + MAX_WORDS)


def _classes(known: bool, read: bool, strength: float) -> str:
    if not read:
        return "truncated"
    return level_class(strength) if known else f"{level_class(strength)} unknown"


def level_class(strength: float) -> str:
    """Return the CSS class of the colour from -1 (orange) to 1 (blue)."""
    return f"w{round(strength * LEVELS)}"


def word_styles() -> list[tuple[str, Shade, Shade]]:
    """Return each class of `level_class` with its colours in the light and the dark scheme."""
    levels = range(-LEVELS, LEVELS + 1)
    return [
        (f"w{level}", shade(level / LEVELS), shade(level / LEVELS, DARK_PAPER)) for level in levels
    ]
