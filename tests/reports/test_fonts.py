"""Characters that matplotlib's font lacks are drawn with an installed font, or named."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.lib.stride_tricks import sliding_window_view

from rnn_lab.reports import fonts
from rnn_lab.reports.plot_style import save_png

SCRIPTS = {
    "Chinese": ("差评", "fonts-noto-cjk"),
    "Japanese": ("ひどい", "fonts-noto-cjk"),
    "Korean": ("나쁨", "fonts-noto-cjk"),
    "Thai": ("แย่", "fonts-noto-core"),
    "Devanagari": ("बुरा", "fonts-noto-core"),
    "emoji": ("🫠", "fonts-symbola"),
}


def make_font(path: Path, family: str, characters: str) -> Path:
    """Write a font whose every character is a filled square."""
    names = {ord(c): f"u{ord(c):X}" for c in sorted(set(characters))}
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square, glyphs = pen.glyph(), [".notdef", *names.values()]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys(glyphs, square))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (900, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture(autouse=True)
def installed(monkeypatch) -> list[str]:
    """The fonts of the system: none, until a test adds its own."""
    found: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: found)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    monkeypatch.setattr(fonts, "_reported", set())
    bundled = [e for e in font_manager.fontManager.ttflist if "mpl-data" in e.fname]
    font_manager.fontManager.ttflist[:] = bundled
    yield found
    fonts._find_families.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()


def draw(path: Path, *texts: str) -> np.ndarray:
    """Draw the texts one above the other; any warning of matplotlib is an error."""
    figure = Figure((3, 3))
    for row, text in enumerate(texts):
        figure.text(0.1, 0.1 + 0.2 * row, text, fontsize=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return imread(save_png(figure, path))


def has_square(image: np.ndarray) -> bool:
    """Return whether a square of 15 pixels is dark, as the glyphs of `make_font` are."""
    return bool(sliding_window_view(image[..., 0] < 0.5, (15, 15)).all(axis=(2, 3)).any())


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_installed_font_with_the_glyphs_is_used(tmp_path, installed, caplog, script):
    text, _ = SCRIPTS[script]
    boxes = draw(tmp_path / "boxes.png", f"class {text}")
    caplog.clear()
    fonts._find_families.cache_clear()
    installed.append(str(make_font(tmp_path / "own.ttf", "Own", text)))
    drawn = draw(tmp_path / "drawn.png", f"class {text}")
    assert caplog.messages == []
    assert not has_square(boxes)
    assert has_square(drawn)


def test_several_fonts_cover_what_none_has_alone(tmp_path, installed, caplog):
    for number, script in enumerate(SCRIPTS):
        path = make_font(tmp_path / f"{number}.ttf", f"Own {number}", SCRIPTS[script][0])
        installed.append(str(path))
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    installed.append(str(tmp_path / "broken.ttf"))
    draw(tmp_path / "plot.png", *(text for text, _ in SCRIPTS.values()))
    assert caplog.messages == []


def test_a_placeholder_font_is_not_taken(tmp_path, installed, caplog):
    installed.append(str(make_font(tmp_path / "own.ttf", "Last Resort", "差评")))
    draw(tmp_path / "plot.png", "差评")
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_characters_without_a_font_are_named_once_with_a_package(tmp_path, caplog, script):
    text, package = SCRIPTS[script]
    draw(tmp_path / "plot.png", text)
    draw(tmp_path / "again.png", text)
    (line,) = caplog.messages
    assert line.startswith("No installed font has ") and line.endswith(f"apt install {package}")
    assert set(line.removeprefix("No installed font has ").partition(":")[0]) == set(text)


def test_what_the_default_font_has_changes_nothing(tmp_path, caplog):
    draw(tmp_path / "plot.png", "positive", "naïve", "Ünïcode", "отрицательный", "سلبي", "a\u200bb")
    assert caplog.messages == []
