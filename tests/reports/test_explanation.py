"""The page and pictures of an explanation, from files written out by hand."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.explain.explanation_data import read_explanation
from rnn_lab.reports.explain.gates import unit_order
from rnn_lab.reports.explain.page import draw_explanation, page, shade
from rnn_lab.reports.explain.plots import figures
from rnn_lab.reports.explain.state_path import principal_path
from rnn_lab.reports.explain.words import LINE_HEIGHT, columns_of

GATES = {
    "lstm": ("f", "i", "C_tilde", "C", "o", "h"),
    "gru": ("z", "r", "h_tilde", "h"),
    "rnn": ("h",),
}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img',
    "src=x",
    "onerror=alert(1)>",
    "&amp;",
    "{{",
    "7*7",
    "}}",
    "$x^2$",
    "\u202etxet",
    "日本",
    "🎬",
    "a" * 300,
    "\ud800",
    "\x1b[31m",
)


def write_explanation(
    folder: Path,
    words: tuple[str, ...],
    *,
    class_names: tuple[str, ...] = ("neg", "pos"),
    name: str = "lstm",
    layers: int = 1,
    directions: tuple[str, ...] = ("forward",),
    hidden: int = 12,
    unknown: tuple[int, ...] = (),
    cut: int = 0,
    gap: float = 0.0,
) -> Path:
    """Each word a token, the first `cut` of them not read; the shares lack `gap` of their sum."""
    random = np.random.default_rng(0)
    time = len(words) - cut
    probabilities = random.dirichlet(np.ones(len(class_names)), time)
    moved = random.normal(size=time)
    about = {
        "run": f"{name.upper()} on <i>reviews</i>, seed 1",
        "model": {"name": name, "num_layers": layers, "bidirectional": len(directions) > 1},
        "values": {
            gate: {
                "kind": "gate" if gate in ("f", "i", "o", "z", "r") else "state",
                "title": f"value ${gate}$",
                "ends": ("shut", "open"),
            }
            for gate in GATES[name]
        },
        "class_names": class_names,
        "vocab_size": 30_000,
        "max_length": max(time, 1),
        "text": " ".join(words),
        "words": [
            {
                "word": word,
                "start": max(0, i - cut),
                "stop": max(0, i + 1 - cut),
                "known": i not in unknown,
            }
            for i, word in enumerate(words)
        ],
        "probabilities": probabilities.tolist(),
        "attributions": moved.tolist(),
        "logit_difference": 0.5 + moved.sum() / (1 - gap),
        "baseline_logit_difference": 0.5,
        "steps": 64,
    }
    folder.mkdir(exist_ok=True)
    (folder / "explanation.json").write_text(json.dumps(about))
    states = {
        f"{layer}_{direction}_{gate}": random.uniform(0, 1, (time, hidden)).astype(np.float32)
        for layer in range(layers)
        for direction in directions
        for gate in GATES[name]
    }
    np.savez(folder / "states.npz", **states)
    return folder


class Page(HTMLParser):
    """The parts of a page that a browser would show, fetch or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_holds_every_word_and_nothing_that_a_word_could_do(tmp_path):
    names = ("<b>neg</b>", "_pos & $co$", '"so" so', "\ud800\n")
    folder = write_explanation(tmp_path, HOSTILE, class_names=names)
    html = draw_explanation(folder).read_text(encoding="utf-8")
    parsed = Page(html)
    assert parsed.open == [] and html.rstrip().endswith("</html>")
    shown = "\n".join(parsed.text)
    for word in (*HOSTILE, *names, "<i>reviews</i>"):
        assert word.replace("\ud800", "\\ud800") in shown
    assert set(parsed.tags).isdisjoint({"script", "link", "iframe", "object", "a"})
    assert {"html", "head", "title", "body", "img", "table"} < set(parsed.tags)
    assert "script-src" not in html and "default-src 'none'" in html
    fetched = {"src", "href", "srcset", "action", "data", "background", "poster"}
    for name, value in parsed.attributes:
        assert not name.startswith("on")
        assert name not in fetched or value.startswith("data:image/png;base64,")
    styles = html[: html.index("</style>")]
    assert "url(" not in styles and "@import" not in styles
    assert re.search(r"https?://", html) is None


def test_the_page_holds_the_pictures_that_lie_beside_it(tmp_path):
    folder = write_explanation(
        tmp_path, ("a", "b"), name="rnn", layers=2, directions=("forward", "backward")
    )
    html = draw_explanation(folder).read_text(encoding="utf-8")
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    pictures = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert {base64.b64decode(source) for source in sources} == set(pictures.values())
    wheres = [f"layer{n}_{way}" for n in (1, 2) for way in ("forward", "backward")]
    drawn = {f"{kind}_{where}.png" for kind in ("gates", "path") for where in wheres}
    assert set(pictures) == drawn | {"verdict.png"}


def test_the_page_says_what_was_not_read_and_what_is_rough(tmp_path):
    (picture := tmp_path / "verdict.png").write_bytes(b"")

    def shown(folder: Path) -> str:
        html = page(read_explanation(folder), {"verdict": picture})
        return " ".join(" ".join(Page(html).text).split())

    words = tuple(f"w{i}" for i in range(12))
    cut = shown(write_explanation(tmp_path / "cut", words, unknown=(9, 10), cut=4, gap=0.05))
    assert "2 of 8 words are not among the 30,000 tokens" in cut
    assert "longer than the 8 tokens" in cut and "4 words were cut off" in cut
    assert "completeness error of 5.00 %" in cut
    assert "take the shares as rough" in cut
    whole = shown(write_explanation(tmp_path / "whole", words))
    assert "completeness error of 0.00 %" in whole
    for absent in ("not among", "cut off", "as rough"):
        assert absent not in whole


@pytest.mark.parametrize("length", [1, 6, 40, 400, 3000])
def test_words_below_the_columns_never_touch_and_columns_stay_visible(tmp_path, length):
    words = tuple(f"word{i}" for i in range(length))
    explanation = read_explanation(write_explanation(tmp_path, words, name="rnn", hidden=3))
    columns = columns_of(explanation)
    assert columns.width / length >= 3
    distances = np.diff(columns.positions) * columns.width / length
    assert (distances >= LINE_HEIGHT).all()
    named = [words[int(position)] for position in columns.positions]
    assert list(columns.labels) == named
    most = int(np.abs(explanation.moved).argmax())
    assert f"word{most}" in named
    assert len(named) == length or length > 60


@pytest.mark.parametrize(("name", "length"), [("rnn", 1), ("gru", 6), ("lstm", 80)])
def test_nothing_written_in_a_picture_is_cut_off(tmp_path, name, length):
    words = tuple(f"extraordinary{i}" for i in range(length))
    names = ("a class of a very, very long name", "another one of the same length or so")
    folder = write_explanation(tmp_path, words, name=name, class_names=names)
    for title, figure in figures(read_explanation(folder)).items():
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(match=_is_shown_text) if text.get_text()]
        assert texts
        for text in texts:
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.y0 >= 0, (title, text)
            assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, (title, text)


def _is_shown_text(artist) -> bool:
    from matplotlib.text import Text

    return isinstance(artist, Text) and artist.get_visible()


def test_the_gates_are_drawn_with_a_unit_in_the_same_row_of_each(tmp_path):
    explanation = read_explanation(write_explanation(tmp_path, ("a", "b", "c")))
    (direction,) = explanation.directions
    order = unit_order(direction.values["C"])
    assert sorted(order) == list(range(12))
    axes = figures(explanation)["gates_layer1_forward"].axes
    images = [image.get_array() for one in axes for image in one.get_images()]
    for image, gate in zip(images, GATES["lstm"], strict=True):
        np.testing.assert_array_equal(image, direction.values[gate][:, order].T)


def test_units_that_move_together_stand_together():
    time = np.linspace(0, 1, 9)[:, None]
    signs = np.array([1, -1, 1, -1, 1])
    order = unit_order(time * signs * [1.0, 1.1, 0.9, 1.0, 1.2])
    assert list(signs[order]) == [1, 1, 1, -1, -1]


def test_principal_path_keeps_distances_in_a_plane():
    random = np.random.default_rng(1)
    flat = random.normal(size=(20, 2)) * [3, 1]
    turned, _ = np.linalg.qr(random.normal(size=(8, 8)))
    path, shares = principal_path(flat @ turned[:2])
    steps, expected = (np.linalg.norm(np.diff(one, axis=0), axis=1) for one in (path, flat))
    np.testing.assert_allclose(steps, expected)
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]


@pytest.mark.parametrize("strength", np.linspace(-1, 1, 9))
def test_words_can_be_read_on_their_colour(strength):
    """WCAG 2.1: a contrast of 4.5 to 1 or more."""

    def luminance(colour: str) -> float:
        if len(colour) == 4:
            colour = "#" + "".join(2 * letter for letter in colour[1:])
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(colour) for colour in shade(strength)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_a_folder_that_is_no_explanation_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"explanation\.json: no such file"):
        draw_explanation(tmp_path)
    folder = write_explanation(tmp_path, ("a",))
    (folder / "states.npz").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"states\.npz: not a whole file"):
        draw_explanation(folder)
