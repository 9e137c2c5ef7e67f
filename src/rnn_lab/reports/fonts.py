"""Fonts for the characters of a plot that matplotlib's own font lacks: Chinese, Thai, Devanagari.

Matplotlib looks for a character in the fonts that a text names, and for no other. Here all fonts of
the system are searched for it, and named after the default one.
"""

import logging
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from warnings import catch_warnings, filterwarnings

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

log = logging.getLogger(__name__)

# Of Debian and Ubuntu, with fonts for characters whose Unicode names begin so.
_CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "IDEOGRAPHIC")
_PACKAGES = ("fonts-noto-cjk", "fonts-noto-core", "fonts-symbola")
# Fonts with an empty or a placeholder glyph for every character.
_PLACEHOLDERS = ("last resort", "lastresort", "blank", "notdef")
_LISTED = 10  # characters in a message

_reported: set[str] = set()  # packages


@contextmanager
def fonts_with_glyphs(figure: Figure, *labels: str) -> Iterator[None]:
    """Draw `figure` inside with fonts that have its characters, as far as they are installed.

    The first characters without any font are reported with the package that has one. `labels` are
    added to the figure inside, with `font_families`.
    """
    texts = figure.findobj(Text)
    needed = _lacking("".join([*(text.get_text() for text in texts), *labels]))
    if not needed:
        yield
        return
    absent = _find_families(needed)[1]
    for text in texts:
        if not needed.isdisjoint(text.get_text()):
            text.set_fontfamily(font_families(text.get_text()))
    if not absent:
        yield
        return
    _report(absent)
    with catch_warnings():  # of matplotlib, one for each character and plot
        filterwarnings("ignore", r"Glyph \d+ .* missing from")
        yield


def font_families(text: str) -> list[str]:
    """Return the default font and the installed ones that `text` needs besides."""
    return [*FontProperties().get_family(), *_find_families(_lacking(text))[0]]


def _lacking(characters: str) -> frozenset[str]:
    """Return the visible characters that the default font lacks."""
    if characters.isascii():
        return frozenset()
    default = FT2Font(font_manager.findfont(FontProperties()))
    return frozenset(
        character
        for character in set(characters)
        if unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp", "Zs")
        and not default.get_char_index(ord(character))
    )


@lru_cache(maxsize=64)
def _find_families(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return installed font families for `characters`, and the characters that no font has."""
    if not characters:
        return (), characters
    found: dict[Path, frozenset[str]] = {}
    for path in _installed():
        try:
            font = FT2Font(str(path))
        except (OSError, RuntimeError):  # not a font that FreeType reads
            continue
        has = frozenset(c for c in characters if font.get_char_index(ord(c)))
        if has and font.scalable and not font.family_name.lower().startswith(_PLACEHOLDERS):
            found[path] = has
    families, rest = [], characters
    while best := max(
        found, key=lambda path: (len(found[path] & rest), _is_plain(path)), default=None
    ):
        if not found[best] & rest:
            break
        rest -= found.pop(best)
        families.append(_family(best))
    return tuple(families), rest


def _installed() -> list[Path]:
    """Return the font files of the system and those that the user's program has added."""
    added = (Path(entry.fname) for entry in fontManager.ttflist)
    bundled = Path(matplotlib.get_data_path())
    paths = {*map(Path, font_manager.findSystemFonts()), *added}
    return sorted(path for path in paths if not path.is_relative_to(bundled))


def _is_plain(path: Path) -> bool:
    """Return whether a file's name is that of a sans-serif font of normal weight, upright."""
    name = path.stem.lower()
    return "sans" in name and not any(
        style in name for style in ("mono", "bold", "black", "light", "thin", "italic", "oblique")
    )


def _family(path: Path) -> str:
    """Return the family of a font, and make it known to matplotlib.

    Its list of fonts is a file in the user's cache, which lacks those installed later.
    """
    if str(path) not in {entry.fname for entry in fontManager.ttflist}:
        fontManager.addfont(path)
    return FT2Font(str(path)).family_name


def _report(absent: frozenset[str]) -> None:
    by_package: dict[str, list[str]] = {package: [] for package in _PACKAGES}
    for character in sorted(absent):
        by_package[_package(character)].append(character)
    for package, characters in by_package.items():
        if characters and package not in _reported:
            _reported.add(package)
            more = "..." if len(characters) > _LISTED else ""
            log.warning(
                "No installed font has %s%s: plots show boxes. Install one, on Debian and Ubuntu "
                "with: apt install %s",
                *("".join(characters[:_LISTED]), more, package),
            )


def _package(character: str) -> str:
    cjk, others, symbols = _PACKAGES
    if unicodedata.name(character, "").startswith(_CJK):
        return cjk
    return symbols if unicodedata.category(character) == "So" else others
