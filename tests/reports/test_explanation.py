"""The page and plots of an explanation, from files written by hand."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.explain.explanation_data import read_explanation
from rnn_lab.reports.explain.page import draw_explanation, render_page, shade
from rnn_lab.reports.explain.plots import (
    LINE_HEIGHT,
    make_columns,
    make_plots,
    principal_path,
    unit_order,
)

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
    values: dict[str, dict[str, str]] | None = None,
) -> Path:
    """Write a token per word, the first `cut` not read; attributions lack `gap` of their sum."""
    random = np.random.default_rng(0)
    time = len(words) - cut
    probabilities = random.dirichlet(np.ones(len(class_names)), time)
    attributions = random.normal(size=time)
    about = {
        "run": f"{name.upper()} on <i>reviews</i>, seed 1",
        "model": {"name": name, "num_layers": layers, "bidirectional": len(directions) > 1},
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
        "attributions": attributions.tolist(),
        "logit_difference": 0.5 + attributions.sum() / (1 - gap),
        "baseline_logit_difference": 0.5,
        "steps": 64,
        "values": values or {key: describe(key) for key in GATES[name]},
    }
    folder.mkdir(exist_ok=True)
    (folder / "explanation.json").write_text(json.dumps(about))
    states = {
        f"{layer}_{direction}_{gate}": random.uniform(0, 1, (time, hidden)).astype(np.float32)
        for layer in range(layers)
        for direction in directions
        for gate in about["values"]
    }
    np.savez(folder / "states.npz", **states)
    return folder


def describe(key: str) -> dict[str, str]:
    """The description of a value of a built-in cell."""
    kind = {"C": "state", "h": "state"}.get(key, "candidate" if "tilde" in key else "gate")
    name = {"C": "cell state", "h": "hidden state"}.get(key, f"{kind} of {key[0]}")
    return {"kind": kind, "title": f"{name} ${key[:1]}$"}


class Page(HTMLParser):
    """The parts of a page that a browser shows, fetches or runs."""

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


def test_the_page_contains_every_word_and_no_word_is_markup(tmp_path):
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


def test_the_page_embeds_the_plots_beside_it(tmp_path):
    folder = write_explanation(
        tmp_path, ("a", "b"), name="rnn", layers=2, directions=("forward", "backward")
    )
    html = draw_explanation(folder).read_text(encoding="utf-8")
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    plots = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert {base64.b64decode(source) for source in sources} == set(plots.values())
    wheres = [f"layer{n}_{way}" for n in (1, 2) for way in ("forward", "backward")]
    drawn = {f"{kind}_{where}.png" for kind in ("gates", "path") for where in wheres}
    assert set(plots) == drawn | {"prediction.png"}


@pytest.mark.parametrize(
    ("words", "direction"),
    [
        (("the", "film"), "ltr"),
        (
            ("\u0627\u0644\u0641\u064a\u0644\u0645", "\u062c\u0645\u064a\u0644", "(2019)", "imdb"),
            "rtl",
        ),
        (("הסרט", "טוב", "!"), "rtl"),
        (("the", "word", "טוב", "is", "good"), "ltr"),
        (("10", "/", "10"), "ltr"),
    ],
)
def test_words_run_in_the_direction_of_their_script(tmp_path, words, direction):
    (plot := tmp_path / "prediction.png").write_bytes(b"")
    folder = write_explanation(tmp_path / "why", words, cut=1)
    page = Page(render_page(read_explanation(folder), {"prediction": plot}))
    assert [value for name, value in page.attributes if name == "dir"] == [direction]
    says_so = "The text runs from right to left, the plots" in " ".join(page.text)
    assert says_so == (direction == "rtl")
    # In the order of the text: the browser arranges it.
    shown = [text for text in page.text if text in words][: len(words)]
    assert shown == list(words)


def test_the_page_names_truncated_words_and_a_large_completeness_error(tmp_path):
    (plot := tmp_path / "prediction.png").write_bytes(b"")

    def shown(folder: Path) -> str:
        html = render_page(read_explanation(folder), {"prediction": plot})
        return " ".join(" ".join(Page(html).text).split())

    words = tuple(f"w{i}" for i in range(12))
    cut = shown(write_explanation(tmp_path / "cut", words, unknown=(9, 10), cut=4, gap=0.05))
    assert "2 of 8 words are not among the 30,000 tokens" in cut
    assert "longer than data.max_length, 8 tokens: 4 words were not read" in cut
    assert "completeness error of 5.00 %" in cut
    assert "the attributions are only approximate" in cut
    whole = shown(write_explanation(tmp_path / "whole", words))
    assert "completeness error of 0.00 %" in whole
    for absent in ("not among", "not read", "approximate"):
        assert absent not in whole


def test_words_cut_from_the_middle_are_shown_there(tmp_path):
    (plot := tmp_path / "prediction.png").write_bytes(b"")
    folder = write_explanation(tmp_path / "cut", tuple(f"w{i}" for i in range(6)), cut=2)
    about = json.loads((folder / "explanation.json").read_text())
    first, second, *read = about["words"]
    unread = [word | {"start": 1, "stop": 1} for word in (first, second)]
    about["words"] = [read[0], *unread, *read[1:]]
    (folder / "explanation.json").write_text(json.dumps(about))
    html = render_page(read_explanation(folder), {"prediction": plot})
    words = re.findall(r"<span[^>]*><bdi>(w\d)</bdi></span>", html.split('class="text"')[1])
    assert words[:6] == ["w2", "w0", "w1", "w3", "w4", "w5"]
    struck_out = re.findall(r'class="truncated"><bdi>(w\d)', html)
    assert struck_out == ["w0", "w1"]


@pytest.mark.parametrize("length", [1, 6, 40, 400, 3000])
def test_labels_never_overlap_and_columns_stay_visible(tmp_path, length):
    words = tuple(f"word{i}" for i in range(length))
    explanation = read_explanation(write_explanation(tmp_path, words, name="rnn", hidden=3))
    columns = make_columns(explanation)
    assert columns.width / length >= 3
    distances = np.diff(columns.positions) * columns.width / length
    assert (distances >= LINE_HEIGHT).all()
    named = [words[int(position)] for position in columns.positions]
    assert list(columns.labels) == named
    most = int(np.abs(explanation.word_attributions).argmax())
    assert f"word{most}" in named
    assert len(named) == length or length > 60


@pytest.mark.parametrize(("name", "length"), [("rnn", 1), ("gru", 6), ("lstm", 80)])
def test_no_text_of_a_plot_is_cut_off(tmp_path, name, length):
    words = tuple(f"extraordinary{i}" for i in range(length))
    names = ("a class of a very, very long name", "another one of the same length or so")
    folder = write_explanation(tmp_path, words, name=name, class_names=names)
    for title, figure in make_plots(read_explanation(folder)).items():
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


def test_the_path_of_a_direction_begins_where_it_reads_first(tmp_path):
    both = ("forward", "backward")
    folder = write_explanation(tmp_path, ("one", "two", "three"), name="gru", directions=both)
    found = {}
    for title, figure in make_plots(read_explanation(folder)).items():
        texts = {text.get_text() for text in figure.findobj(match=_is_shown_text)}
        found |= {title: texts} if any("before the" in text for text in texts) else {}
    assert len(found) == 2
    for title, texts in found.items():
        ends = ("last", "first") if "backward" in title else ("first", "last")
        assert {f"before the {ends[0]} word", f"after the {ends[1]} word"} <= texts


def test_a_unit_has_the_same_row_in_every_heatmap(tmp_path):
    explanation = read_explanation(write_explanation(tmp_path, ("a", "b", "c")))
    (direction,) = explanation.directions
    order = unit_order(direction.values["C"])
    assert sorted(order) == list(range(12))
    axes = make_plots(explanation)["gates_layer1_forward"].axes
    images = [image.get_array() for one in axes for image in one.get_images()]
    for image, gate in zip(images, GATES["lstm"], strict=True):
        np.testing.assert_array_equal(image, direction.values[gate][:, order].T)


def test_a_cell_with_other_gates_shows_them_by_name(tmp_path):
    values = {
        "g": {"kind": "gate", "title": r"growth gate $\gamma$", "ends": ["$0$", "up"]},
        "x_tilde": {"kind": "candidate", "title": r"proposal $\tilde{x}$"},
        "s": {"kind": "state", "title": r"slow state $s$: costs \$1"},
        "h": {"kind": "state", "title": r"<b>output</b> $\broken{$"},
    }
    folder = write_explanation(tmp_path, ("a", "b", "c"), name="my_gru", values=values)
    explanation = read_explanation(folder)
    (direction,) = explanation.directions
    assert explanation.states == ["s", "h"]
    assert explanation.memory == "s"
    figure = make_plots(explanation)["gates_layer1_forward"]
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_images()]
    assert titles == [
        r"growth gate $\gamma$",
        r"proposal $\tilde{x}$",
        r"slow state $s$: costs \$1",
        r"<b>output</b> \$\broken{\$",
    ]
    (gate, *others) = [image for axes in figure.axes for image in axes.get_images()]
    assert gate.get_clim() == (0, 1)
    assert all(image.get_clim()[0] == -image.get_clim()[1] for image in others)
    order = unit_order(direction.values["s"])
    np.testing.assert_array_equal(gate.get_array(), direction.values["g"][:, order].T)
    page = draw_explanation(folder).read_text(encoding="utf-8")
    assert "of the slow state over time" in page
    assert "the my GRU" in " ".join(t.get_text() for t in figure.texts)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"h": describe("h") | {"kind": "lamp"}}, "impossible value of a cell: .*lamp"),
        ({"h": describe("h") | {"ends": ["one"]}}, "impossible value of a cell"),
        ({"h": describe("h") | {"title": 3}}, "impossible value of a cell"),
        ({"h": describe("h"), "C": describe("C")}, "values h, expected h, C"),
        ({"h": describe("f")}, "no state among the values"),
        ({"h": {"kind": "state"}}, "title"),
    ],
)
def test_values_that_do_not_describe_the_states_are_refused(tmp_path, values, says):
    folder = write_explanation(tmp_path, ("a",), name="rnn")
    path = folder / "explanation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"values": values}))
    with pytest.raises(CheckpointError, match=says):
        read_explanation(folder)


def test_units_with_similar_values_are_side_by_side():
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
def test_words_are_readable_on_their_colour(strength):
    """WCAG 2.1: a contrast of 4.5 to 1 or more."""

    def luminance(colour: str) -> float:
        if len(colour) == 4:
            colour = "#" + "".join(2 * letter for letter in colour[1:])
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(colour) for colour in shade(strength)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_a_folder_without_an_explanation_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"explanation\.json: no such file"):
        draw_explanation(tmp_path)
    folder = write_explanation(tmp_path, ("a",))
    (folder / "states.npz").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"states\.npz: not a valid explanation"):
        draw_explanation(folder)


@pytest.mark.filterwarnings("error")
def test_words_without_a_font_are_no_warnings_of_matplotlib(tmp_path):
    """Which has one for each character and plot, also where labels are only measured."""
    draw_explanation(write_explanation(tmp_path, ("日本", "แย่", "बुरा", "good", "\ud800")))
