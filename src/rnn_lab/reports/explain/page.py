"""explanation.html: one verdict explained, in one file that needs no other and no network.

The text, the class names and the run's name may be anything: the template escapes them, and the
page forbids itself scripts and every address.
"""

import base64
import warnings
from functools import partial
from math import floor, log10
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.explain.explanation_data import Explanation, Word, read_explanation
from rnn_lab.reports.explain.plots import figures
from rnn_lab.reports.formatting import percent
from rnn_lab.reports.plot_style import BLUE, ORANGE, save

TOLERANCE = 0.01  # of completeness; beyond, the page warns
MOST_CUT_WORDS = 80  # shown of those that were cut off
SMALLEST_SCALE = 0.8  # of a picture in a narrow window; smaller, columns vanish
STRONGEST = 10  # words listed for and against


class Shade(NamedTuple):
    """Colours of one word, as CSS."""

    background: str
    ink: str


class Picture(NamedTuple):
    """A PNG within the page."""

    source: str
    least_width: int  # pixels; in a narrower window it scrolls


class ShownWord(NamedTuple):
    """One word of the page."""

    text: str
    known: bool
    move: float  # of the logit difference
    after: float  # probability of the predicted class once the word is read
    number: int  # from 1, among the words read
    shade: Shade


def draw_explanation(folder: Path) -> Path:
    """Draw the pictures and the page of an explanation into its folder; return the page's path.

    Raises CheckpointError where a file of the explanation is missing or malformed.
    """
    explanation = read_explanation(folder)
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; on the page, the browser finds a font.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        pictures = {
            name: save(figure, folder / f"{name}.png")
            for name, figure in figures(explanation).items()
        }
    path = folder / "explanation.html"
    with atomic_write(path) as file:
        file.write(page(explanation, pictures))
    return path


def page(explanation: Explanation, pictures: dict[str, Path]) -> str:
    """The page as HTML, with `pictures`, PNG files by name, inside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scale = float(np.abs(explanation.moved).max())
    # Two, or as many as tell small numbers apart.
    digits = min(max(2, 1 - floor(log10(scale or 1))), 6)
    environment.filters |= {"percent": percent, "signed": partial(signed, digits=digits)}
    shown = shown_words(explanation)
    strongest = sorted(shown, key=lambda word: -abs(word.move))
    return environment.get_template("page.html").render(
        explanation=explanation,
        pictures={name: _embedded(path) for name, path in pictures.items()},
        words=shown,
        cut=cut_words(explanation),
        for_it=[word for word in strongest if word.move > 0][:STRONGEST],
        against_it=[word for word in strongest if word.move < 0][:STRONGEST],
        scale=scale,
        key=[shade(position / 20) for position in range(-20, 21)],
        tolerance=TOLERANCE,
    )


def shown_words(explanation: Explanation) -> list[ShownWord]:
    """The words that were read, with their colours: the deepest for the one that moved most."""
    most = float(np.abs(explanation.moved).max()) or 1.0
    after = explanation.probabilities[:, explanation.predicted]
    return [
        ShownWord(
            word.text, word.known, move, float(after[word.stop - 1]), number, shade(move / most)
        )
        for number, (word, move) in enumerate(
            zip(explanation.words_read, explanation.moved.tolist(), strict=True), start=1
        )
    ]


def cut_words(explanation: Explanation) -> dict[str, Any]:
    """The words cut off before and after those that were read; of very many the nearest."""
    unread: dict[str, list[Word]] = {"before": [], "after": []}
    for word in explanation.words:
        if not word.read:
            unread["after" if word.start else "before"].append(word)
    before, after = unread["before"], unread["after"]
    return {
        "before": before[-MOST_CUT_WORDS:],
        "before_left_out": max(0, len(before) - MOST_CUT_WORDS),
        "after": after[:MOST_CUT_WORDS],
        "after_left_out": max(0, len(after) - MOST_CUT_WORDS),
        "count": len(before) + len(after),
    }


def shade(strength: float) -> Shade:
    """Colours for -1 (orange, against) to 1 (blue, for), written over in black or in white."""
    deep = BLUE if strength > 0 else ORANGE
    parts = [int(deep[i : i + 2], 16) for i in (1, 3, 5)]
    mixed = [round(255 + (part - 255) * abs(strength)) for part in parts]
    # The relative luminance of WCAG 2.1: whichever of black and white stands out more, at least
    # 4.5 to 1.
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(mixed) / 255
    ]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    dark = (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05)
    return Shade("#" + "".join(f"{part:02x}" for part in mixed), "#000" if dark else "#fff")


def signed(value: float, digits: int = 2) -> str:
    """Return "+0.25" or "−0.25"."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _embedded(path: Path) -> Picture:
    content = path.read_bytes()
    width = int.from_bytes(content[16:20], "big")  # where every PNG has it, in pixels
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    return Picture(source, round(SMALLEST_SCALE * width))
