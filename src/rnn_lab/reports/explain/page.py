"""Write explanation.html: one explained prediction on a page that needs no other file."""

import base64
import unicodedata
from collections import Counter
from functools import partial
from math import floor, log10
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import to_rgb

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.explain.explanation_data import ExplanationData, Word, read_explanation
from rnn_lab.reports.explain.plots import make_plots
from rnn_lab.reports.formatting import format_signed
from rnn_lab.reports.plot_style import BLUE, ORANGE, mix_colours, save_png
from rnn_lab.reports.rendering import render_template

TEMPLATE = Path(__file__).parent / "page.html"
WORDS_TEMPLATE = Path(__file__).parent / "words.html"
MAX_COMPLETENESS_ERROR = 0.01  # above it the page shows a warning
MAX_TRUNCATED_WORDS = 80  # shown on either side of the words read
MIN_PLOT_SCALE = 0.8  # in a narrow window; a smaller one would hide columns
MAX_STRONGEST = 10  # words listed for and against


class Shade(NamedTuple):
    """The colours of one word, as CSS."""

    background: str
    ink: str


class ShownWord(NamedTuple):
    """One word on the page."""

    text: str
    known: bool
    attribution: float  # to the logit difference
    probability: float  # of the explained class after the word
    number: int  # from 1, among the words read
    shade: Shade


def draw_explanation(folder: Path) -> Path:
    """Write the plots and the page of an explanation to its folder; return the page's path.

    Raises:
        CheckpointError: a file of the explanation is missing or malformed.
    """
    explanation = read_explanation(folder)
    plots = {
        name: save_png(figure, folder / f"{name}.png")
        for name, figure in make_plots(explanation).items()
    }
    path = folder / "explanation.html"
    with atomic_write(path) as file:
        file.write(render_page(explanation, plots))
    return path


def render_page(explanation: ExplanationData, plots: dict[str, Path]) -> str:
    """Return the page as HTML, with `plots`, PNG files by name, embedded."""
    words = _shown_words(explanation)
    scale = max(abs(word.attribution) for word in words)
    # Two, or as many as small attributions need to differ.
    digits = min(max(2, 1 - floor(log10(scale or 1))), 6)
    strongest = sorted(words, key=lambda word: -abs(word.attribution))
    return render_template(
        TEMPLATE,
        {"signed": partial(format_signed, digits=digits)},
        explanation=explanation,
        plots={name: _embed(path) for name, path in plots.items()},
        words=words,
        truncated=_truncated_words(explanation),
        strongest_for=[word for word in strongest if word.attribution > 0][:MAX_STRONGEST],
        strongest_against=[word for word in strongest if word.attribution < 0][:MAX_STRONGEST],
        scale=scale,
        key=[shade(position / 20) for position in range(-20, 21)],
        max_error=MAX_COMPLETENESS_ERROR,
        lower_case=all(word.text == word.text.lower() for word in explanation.words),
        right_to_left=is_right_to_left(explanation.text),
    )


def render_words(explanation: ExplanationData) -> str:
    """Return the prediction and the coloured words as HTML to embed: styles inline, no plots."""
    return render_template(
        WORDS_TEMPLATE,
        {"signed": format_signed},
        explanation=explanation,
        words=_shown_words(explanation),
        truncated=_truncated_words(explanation)["count"],
        right_to_left=is_right_to_left(explanation.text),
        blue=BLUE,
        orange=ORANGE,
    )


def is_right_to_left(text: str) -> bool:
    """Return whether most letters of `text` are of scripts such as Arabic and Hebrew.

    dir="auto" would look at none of the words: each is in an element with a direction of its own.
    """
    directions = Counter(map(unicodedata.bidirectional, text))
    return directions["R"] + directions["AL"] > directions["L"]


def _shown_words(explanation: ExplanationData) -> list[ShownWord]:
    """Return the words read, with deeper colours for greater attributions."""
    attributions = explanation.word_attributions.tolist()
    most = max(map(abs, attributions)) or 1.0
    shown: list[ShownWord] = []
    for word, attribution in zip(explanation.words_read, attributions, strict=True):
        probability = float(explanation.probabilities[word.stop - 1, explanation.explained])
        number, colours = len(shown) + 1, shade(attribution / most)
        shown.append(ShownWord(word.text, word.known, attribution, probability, number, colours))
    return shown


def _truncated_words(explanation: ExplanationData) -> dict[str, Any]:
    """Return the words truncated before, between and after those read; of very many, the nearest.

    Those between are after the number `gap` of the words read.
    """
    read = explanation.words_read
    unread: dict[str, list[Word]] = {"before": [], "between": [], "after": []}
    for word in explanation.words:
        if not word.read:
            is_last = word.start == read[-1].stop
            unread["before" if not word.start else "after" if is_last else "between"].append(word)
    before, between, after = unread.values()
    return {
        "before": before[-MAX_TRUNCATED_WORDS:],
        "more_before": max(0, len(before) - MAX_TRUNCATED_WORDS),
        "gap": sum(word.stop <= between[0].start for word in read) if between else None,
        "between": between[:MAX_TRUNCATED_WORDS],
        "more_between": max(0, len(between) - MAX_TRUNCATED_WORDS),
        "after": after[:MAX_TRUNCATED_WORDS],
        "more_after": max(0, len(after) - MAX_TRUNCATED_WORDS),
        "count": len(before) + len(between) + len(after),
    }


def shade(strength: float, paper: str = "#FFFFFF") -> Shade:
    """Return the colours of an attribution from -1 (orange, against) to 1 (blue, for).

    `paper` is the background of the page, and of a word without an attribution.
    """
    background = mix_colours(paper, BLUE if strength > 0 else ORANGE, abs(strength))
    # Black or white text, whichever has the greater contrast by the relative luminance of WCAG 2.1;
    # it is at least 4.5 to 1.
    parts = np.array(to_rgb(background))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    dark = (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05)
    return Shade(background, "#000" if dark else "#fff")


def _embed(path: Path) -> dict[str, Any]:
    """Return a PNG as a data: address, and the width below which it scrolls, in pixels."""
    content = path.read_bytes()
    width = int.from_bytes(content[16:20], "big")  # in pixels, from the header of the PNG
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    return {"source": source, "min_width": round(MIN_PLOT_SCALE * width)}
