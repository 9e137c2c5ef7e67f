"""The page of `rnn-lab serve`, used in a real Chromium: typed into, clicked, tabbed through."""

import csv
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rnn_lab.inference.export import export
from rnn_lab.inference.load import LoadedModel, load_model
from rnn_lab.io.safetensors_file import pack_safetensors
from tests.inference.untrained import untrained_run
from tests.reports.chromium import Chromium
from tests.serving.conftest import Start
from tests.serving.server import Server

TEXT = "The scene was lovely, then the music was lovely and the actor spoke: zyzzyva"
EVIL = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
LABELS = ("plain", EVIL, "جميل", "中文标签")
TOKEN = "a-token-of-the-tests"
PHONE = 360  # pixels
IDLE = "!document.querySelector('[aria-busy=true]') && document.querySelector('.why:not([hidden])')"
LABELLED = "!document.getElementById('file-result').hidden"
# Texts whose contrast with what is behind them is below 4.5 to 1 (WCAG 2.1, AA).
FAINT = """
(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => parts(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement, box = one.getBoundingClientRect();
    if (!walker.currentNode.data.trim() || box.width < 2 || !one.checkVisibility()) continue;
    const style = getComputedStyle(one), ink = one.closest("svg") ? style.fill : style.color;
    const [low, high] = [luminance(ink), luminance(behind(one))].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) faint.push(`${one.textContent.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return faint;
})()
"""


@pytest.fixture(scope="module")
def runs(mood_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A GRU, the same one as .onnx, and one with any number of labels, whose names are HTML."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(mood_run, folder / "moods")
    export([f"run={mood_run}", f"output={folder / 'exported.onnx'}"])
    several = write_several(load_model(mood_run), folder / "several.safetensors")
    return [folder / "moods", folder / "exported.onnx", several]


def write_several(run: LoadedModel, path: Path) -> Path:
    """Write a run with the words of `run` that gives a text any number of `LABELS`."""
    vocabulary = run.text_encoder.vocabulary
    shape: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
    several = untrained_run(
        vocabulary=vocabulary, class_names=LABELS, task="multilabel", dropout=0.0, **shape
    )
    saved, data = run.about["hyper_parameters"], run.about["TextDataModule"]
    model = several.model_config.model_dump()
    saved = {**saved, "model": model, "num_classes": len(LABELS), "task": "multilabel"}
    about = {"hyper_parameters": saved, "TextDataModule": {**data, "class_names": list(LABELS)}}
    path.write_bytes(pack_safetensors(several.model.state_dict(), about))
    return path


@pytest.fixture(scope="module")
def served(start: Start, runs: list[Path]) -> Server:
    return start(f"run=[{','.join(map(str, runs))}]")


@pytest.fixture
def page(browser: Chromium, served: Server) -> Iterator[Chromium]:
    """The page, just opened; after the test, no other host was asked and nothing failed."""
    browser.open(f"{served.url}/")
    browser.until("!document.getElementById('ready').hidden")
    yield browser
    check(browser, served)


def check(browser: Chromium, server: Server) -> None:
    others = [url for url in browser.requests if not url.startswith(f"{server.url}/")]
    # The icon is in the page, and a result that is saved is a blob of it.
    assert all(url.startswith(("data:", f"blob:{server.url}/")) for url in others)
    assert browser.errors == []
    assert browser.value("window.hacked") is None


def focus(browser: Chromium, selector: str) -> None:
    browser.value(f"document.querySelector({json.dumps(selector)}).focus()")


def enter(browser: Chromium, text: str, *, until: str = IDLE, ask: bool = True) -> None:
    """Replace the text, as typing does, and wait for the results.

    By Ctrl+Enter, or else as long as the page does for the next key.
    """
    focus(browser, "#text")
    browser.value("document.getElementById('text').select()")
    browser.value("document.getElementById('length').textContent = ''")
    browser.insert(text)
    if ask:
        browser.press("Enter", ctrl=True)
    browser.until("document.getElementById('length').textContent")  # the page has begun
    browser.until(until)


def choose(browser: Chromium, selector: str, value: str) -> None:
    """Choose an option, as a click on it does."""
    one = f"document.querySelector({json.dumps(selector)})"
    browser.value(f"{one}.value = {json.dumps(value)}")
    assert browser.value(f"{one}.value") == value
    browser.value(f"{one}.dispatchEvent(new Event('change', {{ bubbles: true }}))")


def text_of(browser: Chromium, selector: str) -> str:
    return browser.value(f"document.querySelector({json.dumps(selector)}).innerText")


def is_hidden(browser: Chromium, selector: str) -> bool:
    return not browser.value(f"document.querySelector({json.dumps(selector)}).checkVisibility()")


def answer(server: Server, path: str, **body: Any) -> Any:
    return server.post(path, body).json


def percent(share: float) -> str:
    if share > 0.9995:
        return "> 99.9 %"
    return "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


# ---- One text


def test_typing_shows_what_the_service_answers(page: Chromium, served: Server) -> None:
    assert not is_hidden(page, "#empty")
    enter(page, TEXT, ask=False)
    assert is_hidden(page, "#empty")
    found = answer(served, "/explain", text=TEXT)
    ordered = sorted(found["probabilities"].items(), key=lambda pair: -pair[1])
    assert found["label"] == "good" == text_of(page, ".label")
    assert text_of(page, ".chance") == percent(ordered[0][1])
    assert page.texts(".prediction .name") == [name for name, _ in ordered]
    assert page.texts(".prediction .class .share") == [percent(share) for _, share in ordered]
    assert page.texts(".text > span") == [word["text"] for word in found["words"]]
    assert page.texts(".text > .unknown")[-1] == "zyzzyva"
    assert text_of(page, "#announcement") == f"good, {percent(ordered[0][1])}"
    strongest = max(found["words"], key=lambda word: word["attribution"])
    assert strongest["text"] == "lovely" == page.texts(".most-for .chip")[0]
    assert page.requests.count(f"{served.url}/explain") == 1  # not one a letter


def test_words_are_coloured_by_their_attribution(page: Chromium, served: Server) -> None:
    enter(page, TEXT)
    words = answer(served, "/explain", text=TEXT)["words"]
    most = max(abs(word["attribution"]) for word in words)
    colours = page.value(
        "[...document.querySelectorAll('.text > span')].map((one) => "
        "getComputedStyle(one).backgroundColor.match(/\\d+/g).map(Number))"
    )
    for word, colour in zip(words, colours, strict=True):
        share = abs(word["attribution"]) / most
        end = (0, 114, 178) if word["attribution"] > 0 else (213, 94, 0)
        wanted = [255 + (part - 255) * share for part in end]
        assert colour == pytest.approx(wanted, abs=1), word


def test_the_values_of_a_word_are_read_by_pointer_and_by_keyboard(
    page: Chromium, served: Server
) -> None:
    enter(page, TEXT)
    found = answer(served, "/explain", text=TEXT)
    words, gate = found["words"], found["gates"][0]
    good = found["classes"].index("good")

    def readout(index: int) -> str:
        word = words[index]
        value = f"{word['attribution']:+.2f}".replace("-", "\N{MINUS SIGN}")
        if value[1:] == "0.00":
            value = "0.00"
        shown = f"{word['text']} ({index + 1} of {len(words)}): attribution {value}; after it good "
        return shown + percent(word["probabilities"][good])

    page.point_at(*page.middle(".text [data-word='3']"))
    assert text_of(page, ".words .readout").startswith(readout(3))
    focus(page, ".words .plot")
    for _ in range(2):
        page.press("ArrowRight")
    assert text_of(page, ".words .readout").startswith(readout(5))
    spoken = page.value("document.querySelector('.words .plot').ariaValueText")
    assert spoken == text_of(page, ".words .readout")
    page.press("End")
    assert text_of(page, ".words .readout").startswith(readout(len(words) - 1))
    assert page.texts(".text .pointed") == [words[-1]["text"]]
    mean = gate["mean"][-1]
    assert f"{gate['name']} {mean:.2f} on average" in text_of(page, ".gates .readout")


def test_the_table_has_the_values_of_the_charts(page: Chromium, served: Server) -> None:
    enter(page, TEXT)
    assert is_hidden(page, ".values table")
    page.click(".values summary")
    page.until("document.querySelectorAll('.values tbody tr').length")
    found = answer(served, "/explain", text=TEXT)
    words, classes = found["words"], sorted(found["classes"], key=found["probabilities"].get)[::-1]
    head = ["", "word", "attribution", *classes, "update gate, mean"]
    assert page.texts(".values thead th") == head
    assert page.texts(".values tbody td:nth-child(2)") == [word["text"] for word in words]
    for column, name in enumerate(classes, 4):
        index = found["classes"].index(name)
        shares = [percent(word["probabilities"][index]) for word in words]
        assert page.texts(f".values tbody td:nth-child({column})") == shares


def test_a_gate_and_a_class_are_chosen(page: Chromium, served: Server) -> None:
    enter(page, TEXT)
    gates = answer(served, "/explain", text=TEXT)["gates"]
    names = [gate["name"] for gate in gates if not gate["backward"]]
    assert page.texts(".segments label") == names
    pixels = "document.querySelector('canvas').toDataURL()"
    before = page.value(pixels)
    page.click(".segments label:last-of-type")
    assert text_of(page, ".gates .readout").startswith(names[-1])
    assert page.value(pixels) != before
    assert page.value("document.querySelector('canvas').width") == len(page.texts(".text > span"))
    choose(page, ".target", "0")
    page.until("document.querySelector('.for').innerText.endsWith('for bad')")
    assert text_of(page, ".label") == "good"
    assert page.texts(".most-against .chip")[0] == "lovely"


def test_examples_and_the_buttons(page: Chromium) -> None:
    page.click("#examples li:nth-child(2) button")
    page.until(IDLE)
    text = page.value("document.getElementById('text').value")
    assert text_of(page, "#length") == f"{len(text)} of 20,000 characters"
    page.click("#clear")
    page.until("!document.getElementById('empty').hidden")
    assert page.value("document.activeElement.id") == "text"
    assert is_hidden(page, "#results")
    page.click("#classify")
    assert is_hidden(page, "#results")  # there is no text


def test_a_text_over_the_limit_is_not_sent(page: Chromium, served: Server) -> None:
    enter(page, "lovely")
    sent = len(page.requests)
    page.value("document.getElementById('text').select()")
    page.insert("lovely film " * 1700)
    page.until("!document.getElementById('text-problem').hidden")
    assert text_of(page, "#text-problem") == (
        "The text has 20,400 characters. The service accepts 20,000."
    )
    assert len(page.requests) == sent and is_hidden(page, "#results")


def test_a_long_text_is_explained_on_request(page: Chromium) -> None:
    enter(
        page, "lovely film " * 250, until="!document.querySelector('[aria-busy=true]')", ask=False
    )
    assert text_of(page, ".label") == "good" and is_hidden(page, ".why")
    page.click(".unexplained button")
    page.until(IDLE)
    assert text_of(page, ".notes").startswith("Struck out:")
    assert page.value(FAINT) == []


# ---- Runs


def test_two_runs_side_by_side(page: Chromium) -> None:
    choose(page, "#compare", "exported")
    enter(page, TEXT)
    assert page.texts(".model") == ["moods", "exported"]
    assert page.texts(".label") == ["good", "good"]
    assert text_of(page, "#comparison").startswith("Both models agree: good. Their probabilities ")
    assert "differ by 0.0 points" in text_of(page, "#comparison")
    left, right = page.value(
        "[...document.querySelectorAll('.result')]"
        ".map((one) => one.getBoundingClientRect().toJSON())"
    )
    assert left["top"] == right["top"] and left["right"] < right["left"]
    words = page.texts(".result:last-child .unexplained p")
    assert words[0].startswith("This model has no explanation")
    assert not is_hidden(page, ".result:first-child .why")
    assert page.value("document.querySelector('.result:last-child .why').hidden") is True


def test_any_number_of_labels_with_names_of_html(page: Chromium, served: Server) -> None:
    choose(page, "#run", "several")
    text = f"not a bad film {EVIL} فيلم 中文 😀"
    enter(page, text)
    found = answer(served, "/explain", text=text, run="several")
    thresholds = {one["name"]: one["thresholds"] for one in served.get("/runs").json["runs"]}
    names = page.texts(".prediction .name")
    assert sorted(names) == sorted(LABELS)
    shown = dict(zip(names, page.texts(".prediction .class .share"), strict=True))
    for name, threshold in zip(LABELS, thresholds["several"], strict=True):
        sign = "≥" if name in found["labels"] else "<"
        wanted = f"{percent(found['probabilities'][name])} {sign} {percent(threshold)}"
        assert shown[name] == wanted
    assert text_of(page, ".label") == (", ".join(found["labels"]) or "no label")
    assert not is_hidden(page, ".thresholds")
    assert page.texts(".text > span") == [word["text"] for word in found["words"]]
    assert page.value("document.querySelectorAll('main img, main script').length") == 0
    choose(page, ".layers select", "1b")
    assert "from the last word to the first" in text_of(page, ".gates > .small")
    choose(page, "#compare", "moods")
    page.until(IDLE)
    assert text_of(page, "#comparison") == "The models have different classes."


def test_a_text_from_right_to_left(page: Chromium) -> None:
    enter(page, "فيلم جميل جدا و قصة lovely")
    assert page.value("document.querySelector('.text').dir") == "rtl"
    first, last = page.value(
        "[...document.querySelectorAll('.text > span')].map((one) => one.getBoundingClientRect().x)"
    )[:: len(page.texts(".text > span")) - 1]
    assert first > last


# ---- Keyboard, a phone's width, colours


def focused(browser: Chromium) -> str:
    """Return the id, classes or text of the element with the focus, and check that it is seen."""
    here = browser.value(
        "(({ id, className, innerText }) => id || className || innerText)(document.activeElement)"
    )
    is_seen = browser.value(
        "[document.activeElement, document.activeElement.closest('.editor')]"
        ".filter(Boolean).map((one) => getComputedStyle(one))"
        ".some((style) => style.outlineStyle !== 'none' || style.boxShadow !== 'none')"
    )
    assert is_seen, f"no visible focus on {here}"
    return here


def tab(browser: Chromium, times: int = 1) -> list[str]:
    places = []
    for _ in range(times):
        browser.press("Tab")
        places.append(focused(browser))
    return places


def test_all_of_it_by_keyboard(page: Chromium) -> None:
    assert tab(page, 6) == ["skip", "API", "text-tab", "run", "compare", "text"]
    page.insert("a lovely film")
    page.press("Enter", ctrl=True)
    page.until("document.getElementById('announcement').innerText")
    assert page.value("document.getElementById('text').value") == "a lovely film"
    assert tab(page, 2) == ["classify", "clear"]
    examples = page.texts("#examples button")
    assert tab(page, len(examples)) == examples
    assert tab(page, 5) == ["About this model", "target", "text", "plot", "All words as a table"]
    page.press("Enter")
    page.until("document.querySelectorAll('.values tbody tr').length === 3")
    assert tab(page, 2)[0] == "wide tall"
    assert tab(page) == [""]  # a group of radio buttons
    page.press("ArrowRight")
    assert page.texts(".segments label:has(:checked)") == [page.texts(".segments label")[1]]
    assert tab(page) == ["plot"]
    page.press("Tab")
    assert page.value("document.activeElement === document.body")  # the end of the page


def test_the_tabs_and_the_file_by_keyboard(page: Chromium) -> None:
    tab(page, 3)
    page.press("ArrowRight")
    assert focused(page) == "file-tab"
    assert is_hidden(page, "#text-panel") and not is_hidden(page, "#file-panel")
    page.press("Tab")
    page.press("Tab")
    assert page.value("document.activeElement.id") == "file"
    ring = "getComputedStyle(document.querySelector('label[for=file]')).outlineStyle"
    assert page.value(ring) == "solid"


@pytest.mark.parametrize("width, dark", [(PHONE, True), (1280, False)], ids=["phone", "light"])
def test_widths_and_schemes(
    page: Chromium, served: Server, tmp_path: Path, width: int, dark: bool
) -> None:
    page.open(f"{served.url}/", width=width, height=740, dark=dark)
    page.until("!document.getElementById('ready').hidden")
    red, green, blue = page.value(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (max(red, green, blue) < 64) == dark

    def fits() -> None:
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value(FAINT) == []

    fits()
    enter(page, f"{TEXT} {'Donaudampfschifffahrt' * 4} awful passable")
    page.click(".values summary")
    time.sleep(0.25)  # the transition of what was stale
    fits()
    choose(page, "#run", "several")
    choose(page, "#compare", "moods")
    page.until(IDLE)
    time.sleep(0.25)
    fits()
    page.click("#file-tab")
    page.choose_file("#file", write_csv(tmp_path / "texts.csv", 12))
    page.until(LABELLED)
    fits()


def test_motion_is_reduced_where_asked(page: Chromium) -> None:
    motion = {"name": "prefers-reduced-motion", "value": "reduce"}
    page.call("Emulation.setEmulatedMedia", features=[motion])
    enter(page, TEXT)
    moving = "document.getAnimations().length"
    assert page.value(moving) == 0


# ---- A file


def write_csv(path: Path, rows: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "review", "label"])
        for i in range(rows):
            text = ("a lovely film", 'an "awful",\nlong one', f"passable {EVIL}")[i % 3]
            writer.writerow([i, text, "given"])
    return path


def test_a_file_is_dropped_and_comes_back_labelled(
    page: Chromium, served: Server, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "my texts.csv", 3000)
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.drop_file("body", source)
    page.until(LABELLED)
    assert text_of(page, "#file-result h2") == "3,000 texts labelled by moods"
    shown = dict(
        zip(page.texts("#file-result .name"), page.texts("#file-result .share"), strict=True)
    )
    assert shown == dict.fromkeys(("good", "bad", "so so"), "1,000 · 33.3 %")
    assert len(page.texts("#file-result tbody tr")) == 8
    assert "3,000 of 3,000 rows" in page.value("document.getElementById('file-state').textContent")
    page.click("#save")
    saved = tmp_path / "my texts.predictions.csv"
    until = time.monotonic() + 30
    while not saved.exists() and time.monotonic() < until:
        time.sleep(0.05)
    with saved.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0][:2] == ["line", "id"] and len(rows) == 3001
    label = rows[0].index("probability_bad") - 1
    assert [row[label] for row in rows[1:4]] == ["good", "bad", "so so"]
    sent = source.read_bytes()
    answered = served.ask("POST", "/predict_file", sent, {"Content-Type": "text/csv"})
    assert saved.read_bytes() == answered.body


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("a.xlsx", b"PK", "a.xlsx: the format is unknown. Choose a file that ends in .csv,"),
        ("empty.csv", b"\n", "empty.csv is empty."),
        ("large.txt", b"a lovely film\n" * 600_000, "large.txt has 8.0 MiB. The service accepts"),
    ],
)
def test_a_file_that_cannot_be_sent(
    page: Chromium, tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)
    page.click("#file-tab")
    page.choose_file("#file", tmp_path / name)
    page.until("!document.getElementById('file-problem').hidden")
    assert text_of(page, "#file-problem").startswith(problem)
    assert not [url for url in page.requests if "predict_file" in url]


def test_the_column_of_the_texts_is_chosen(page: Chromium, tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    path.write_text("one,other\n" + "a lovely long film,an awful long film\n" * 3)
    page.click("#file-tab")
    page.choose_file("#file", path)
    page.until("!document.getElementById('file-problem').hidden")
    assert text_of(page, "#file-problem").endswith("Choose the column of the texts.")
    assert "422" in page.errors.pop()
    choose(page, "#column", "other")
    page.click("#again")
    page.until(LABELLED)
    assert page.texts("#file-result .name") == ["bad"]
    assert is_hidden(page, "#file-problem")


@contextmanager
def files_in_work(server: Server) -> Iterator[None]:
    """Have the server wait for as many files as it labels at the same time."""
    head = b"POST /predict_file HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n"
    connections = [server.connect() for _ in range(2)]
    for connection in connections:
        connection.sendall(head + b"Content-Length: 100\r\n\r\na")
    yield
    for connection in connections:
        connection.close()


def test_a_busy_service_is_asked_again(page: Chromium, served: Server, tmp_path: Path) -> None:
    page.click("#file-tab")
    with files_in_work(served):
        page.choose_file("#file", write_csv(tmp_path / "texts.csv", 3))
        page.until("document.getElementById('file-state').innerText.includes('busy')")
        assert "503" in page.errors.pop()
    page.until(LABELLED)
    assert page.errors == []


# ---- What can go wrong


def test_a_service_that_is_gone_and_back(page: Chromium) -> None:
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", offline=True, **conditions)
    try:
        enter(page, "a lovely film", until="!document.getElementById('offline').hidden")
        page.until("document.querySelector('.problem:not([hidden])')")
        assert text_of(page, ".problem p") == "The service does not answer."
    finally:
        page.call("Network.emulateNetworkConditions", offline=False, **conditions)
    page.until("document.getElementById('offline').hidden")
    page.until(IDLE)
    assert text_of(page, ".label") == "good"
    assert set(page.errors) == {"Failed to load resource: net::ERR_INTERNET_DISCONNECTED"}
    page.errors.clear()


def test_a_token_and_an_answer_that_comes_too_late(
    browser: Chromium, start: Start, runs: list[Path]
) -> None:
    server = start(f"run={runs[0]}", f"token={TOKEN}", "timeout_s=0.001")
    dialog = "document.getElementById('token')"
    for _ in range(20):  # so short a limit closes idle connections too: files of the page may fail
        browser.open(f"{server.url}/")
        time.sleep(1)
        if browser.value(f"Boolean({dialog}?.open)"):
            break
    browser.until(f"{dialog}.open")
    assert is_hidden(browser, "#token-problem")
    assert browser.value("document.activeElement.id") == "token-value"
    browser.insert("a-wrong-token-of-the-tests")
    browser.press("Enter")
    browser.until(f"{dialog}.open && !document.getElementById('token-problem').hidden")
    browser.press("Escape")
    browser.until(f"!{dialog}.open")
    browser.until("document.querySelector('#unusable p').innerText")
    assert text_of(browser, "#unusable p") == "The service needs an access token."
    browser.click("#unusable button")
    browser.until(f"{dialog}.open")
    browser.insert(TOKEN)
    browser.press("Enter")
    browser.until("!document.getElementById('ready').hidden")
    assert browser.value("sessionStorage.getItem('token')") == TOKEN
    assert browser.value("localStorage.length") == 0
    enter(browser, "lovely " * 300, until="document.querySelector('.problem:not([hidden])')")
    assert text_of(browser, ".problem p").endswith("A shorter text takes less time.")
    assert not is_hidden(browser, ".problem button")


def test_the_token_of_the_address_is_taken_from_it(
    browser: Chromium, start: Start, runs: list[Path]
) -> None:
    server = start(f"run={runs[0]}", "token=auto")
    assert server.fragment.startswith("#token=")
    browser.open(f"{server.url}/{server.fragment}")
    browser.until("!document.getElementById('ready').hidden")
    assert browser.value("location.href") == f"{server.url}/"
    enter(browser, "a lovely film")
    assert text_of(browser, ".label") == "good"
    check(browser, server)
