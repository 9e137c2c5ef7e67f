"""run.html: every part of a run, damaged ones named, in a real Chromium without an error."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.run import examples as run_examples
from rnn_lab.reports.run.examples import AttributedText, Examples
from rnn_lab.reports.run.page import render_run_page, write_run_page
from rnn_lab.reports.sweep.jobs import read_jobs
from rnn_lab.reports.sweep.page import render_page, write_page
from rnn_lab.runs.predictions import TopLoss
from tests.reports.chromium import Chromium
from tests.reports.conftest import write_gradient_flow
from tests.reports.sweep_folders import write_job

MakeRun = Callable[..., Path]
EVIL = "</td><script>document.title='hacked'</script><img src=x onerror=alert(1)>"
TEXTS = ["a dull film and good music", "فيلم جميل و قصة رائعة", f"{EVIL} " + "word " * 3_000]
PARTS = (
    "metrics", "learning", "confusion", "curves", "calibration", "classes", "lengths", "examples",
    "flow", "data", "config", "environment", "reproduce",
)  # fmt: skip


def write_top_losses(folder: Path, texts: Sequence[str], classes: Sequence[str]) -> None:
    with (folder / "top_losses.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "label", "prediction", "probability", "loss", "text"])
        for i, text in enumerate(texts):
            writer.writerow([f"test/{i}.txt", classes[0], classes[1], 0.9, 3.0 - i / 10, text])


def complete_run(
    make_run: MakeRun, classes: tuple[str, ...] = ("neg", "pos"), **result: Any
) -> Path:
    """Write a run that has every part; its checkpoint is read by `attribute` alone."""
    scores = {"precision": 0.9, "recall": 0.8, "f1": 0.847, "support": 50}
    baseline = {"tfidf": {"test/accuracy": 0.95, "test/f1": 0.9, "val/accuracy": 0.94}}
    folder = make_run(
        class_names=classes,
        examples=300,
        per_class=dict.fromkeys(classes, scores),
        overrides=["data=files", "data.train_path=my texts.csv"],
        versions={"torch": "2.13.0"},
        git_commit="0a3ec99",
        **{"baseline": baseline, "monitored_metric": "val/accuracy"} | result,
    )
    write_top_losses(folder, TEXTS, classes)
    write_gradient_flow(folder, directions=("forward", "backward"), steps=tuple(range(9)))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").touch()
    (folder / ".hydra").mkdir()
    config = "model: {hidden_size: auto}\ndata: {source: files}\n"
    (folder / ".hydra" / "config.yaml").write_text(config)
    return folder


def attribute(checkpoint: Path, found: Sequence[TopLoss]) -> Iterator[AttributedText]:
    """Attribute 1, -0.5 and 0 to the words of a text in turn; only the first 20 were read."""
    assert checkpoint.name == "best.ckpt"
    for one in found:
        words = one.text.split()
        values = [(1.0, -0.5, 0.0)[i % 3] if i < 20 else 0.0 for i in range(len(words))]
        shown = [(word, word != "dull", i < 20) for i, word in enumerate(words)]
        yield AttributedText("pos", 0.9, shown, values)


EXAMPLES = Examples(attribute=attribute)


def page_of(folder: Path, **options: Any) -> str:
    return render_run_page(folder, **{"examples": EXAMPLES} | options)[0]


# ---- What the page says


def test_it_has_every_part_of_a_run(make_run: MakeRun) -> None:
    page, problems = render_run_page(complete_run(make_run), examples=EXAMPLES)
    assert problems == []
    for part in PARTS:
        assert f'<h2 id="{part}">' in page and f'<a href="#{part}">' in page
    assert "GRU on IMDB reviews, seed 1" in page
    assert "89.12 %" in page and "TF-IDF 95.00 %" in page
    assert "The network loses: accuracy by 5.88 points to TF-IDF" in page
    assert "model.hidden_size=128" in page.partition('id="inferred"')[2].partition("</ul>")[0]
    commands = page.partition('id="reproduce"')[2]
    assert "reproduce=" in commands and "result.json" in commands
    assert "rnn-lab train data=files &#39;data.train_path=my texts.csv&#39;" in commands


@pytest.mark.parametrize(
    ("metric", "mode", "best"),
    [("hamming", "min", 25), ("hamming", "max", 75), ("hamming", None, 75), ("error", None, 25)],
)
def test_the_best_of_a_row_is_by_the_mode_of_the_run(
    make_run: MakeRun, metric: str, mode: str | None, best: int
) -> None:
    tested = f"test/{metric}"
    chosen = {"monitored_metric": f"val/{metric}"} | ({"monitored_mode": mode} if mode else {})
    baseline = {"tfidf": {tested: 0.75}}
    folder = complete_run(make_run, **{tested: 0.25}, **chosen, baseline=baseline)
    row = page_of(folder).partition(f"<bdi>{metric}</bdi></th>")[2].partition("</tr>")[0]
    (shown,) = re.findall(r'<td class="n best">([^<]+)</td>', row)
    assert f"{best}" in shown


def test_words_are_coloured_by_attribution(make_run: MakeRun) -> None:
    page = page_of(complete_run(make_run))
    assert '<span class="w20"><bdi>a</bdi></span>' in page
    assert '<span class="w-10 unknown"><bdi>dull</bdi></span>' in page
    assert '<span class="w0"><bdi>film</bdi></span>' in page
    assert '<div class="text" dir="rtl"' in page
    assert page.count('<span class="truncated">') == run_examples.MAX_TRUNCATED
    assert "more words" in page  # of the long text


def test_attributions_stop_after_some_time(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_examples, "MAX_SECONDS", -1.0)
    page = page_of(complete_run(make_run))
    assert "The last 3 texts have no colours" in page and 'class="w20"><bdi>a' not in page
    assert "<span><bdi>dull</bdi></span>" in page


@pytest.mark.parametrize("number", [0, 1])
def test_the_number_of_examples_is_chosen(make_run: MakeRun, number: int) -> None:
    page = page_of(complete_run(make_run), examples=Examples(number, attribute))
    assert page.count("<article") == number
    assert ('id="examples"' in page) == (number > 0)


def test_without_a_checkpoint_the_texts_have_no_colours(make_run: MakeRun) -> None:
    folder = complete_run(make_run)
    (folder / "checkpoints" / "best.ckpt").unlink()
    page, problems = render_run_page(folder, examples=EXAMPLES)
    assert problems == [] and page.count("<article") == 3
    assert "there is no checkpoints/best.ckpt" in page


def test_a_run_without_a_test_split(make_run: MakeRun) -> None:
    folder = complete_run(make_run)
    result = json.loads((folder / "result.json").read_text())
    result = {name: value for name, value in result.items() if not name.startswith("test/")}
    (folder / "result.json").write_text(json.dumps(result))
    for name in ("predictions.csv", "top_losses.csv"):
        (folder / name).unlink()
    page, problems = render_run_page(folder, examples=EXAMPLES)
    assert problems == []
    assert "The validation metrics chose the epoch" in page
    assert 'id="confusion"' not in page and "validation accuracy" in page


def test_any_number_of_labels(make_run: MakeRun) -> None:
    thresholds = {"neg": 0.4, "pos": 0.6}
    data = {"name": "files", "task": "multilabel"}
    folder = complete_run(make_run, thresholds=thresholds, data=data, **{"test/map": 0.8})
    kinds = ("label", "prediction", "probability")
    columns = [f"{kind}_{name}" for kind in kinds for name in thresholds]
    rows = [",".join(["name,length,loss", *columns])]
    rows += ["a,3,0.1,1,1,1,0,0.9,0.1", "b,4,0.2,0,0,0,1,0.2,0.7"]
    (folder / "predictions.csv").write_text("\n".join(rows) + "\n")
    page, problems = render_run_page(folder, examples=EXAMPLES)
    assert problems == []
    assert "no confusion matrix and no reliability diagram" in page
    assert '<td class="n">40.0 %</td>' in page and "accuracy (exact match)" in page
    assert 'id="curves"' in page and 'id="calibration"' not in page
    assert "those of test are at the thresholds that validation chose" in page
    assert "thresholds that validation" not in page_of(complete_run(make_run, name="one_label"))


def test_the_reliability_diagram_has_the_line_before_calibration(make_run: MakeRun) -> None:
    plain = page_of(complete_run(make_run))
    assert "before calibration" not in plain and "temperature" not in plain
    calibration = {"temperature": 1.618, "uncalibrated": {}}
    page = page_of(complete_run(make_run, name="calibrated", calibration=calibration))
    assert "accuracy before calibration" in page
    found = re.search(r"calibration error ([\d.]+) %.* It was ([\d.]+) % before the logits", page)
    assert found is not None and found[1] != found[2]
    assert "divided by the temperature 1.62, fitted" in page


def test_what_is_not_shown_of_very_many_classes_is_said(make_run: MakeRun) -> None:
    classes = tuple(f"class {i}" for i in range(210))
    page, problems = render_run_page(complete_run(make_run, classes), examples=EXAMPLES)
    assert problems == []
    assert "Not drawn: 210 classes are too many." in page and 'class="heat"' not in page
    assert "and 10 more in result.json and per_class.csv" in page
    drawn = len(re.findall(r'class="grey faint"', page)) // 2
    omitted = re.search(r"the curves of the last (\d+) classes", page)
    assert omitted is not None and drawn in (99, 100)
    assert "Some of the points, evenly spaced" in page


def test_many_classes(make_run: MakeRun) -> None:
    classes = tuple(f"class {i}" for i in range(60))
    page, problems = render_run_page(complete_run(make_run, classes), examples=EXAMPLES)
    assert problems == []
    assert page.count('<tr><th scope="row" class="name"><bdi>class ') == 60
    assert 'class="heat"' in page and "Most frequent confusions" in page
    assert "weakest, class" in page


# ---- Damaged and malicious folders


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("result.json", '{"val/accuracy": 0.9', "result.json: not valid JSON"),
        ("metrics.csv", "", "learning curves: metrics.csv: empty"),
        ("predictions.csv", "name,label\nx,y", "predictions.csv: truncated"),
        ("top_losses.csv", "name\nx\n", "highest losses: top_losses.csv: has no column"),
        ("gradient_flow.csv", "step\nx\n", "gradient flow: gradient_flow.csv: has no column"),
        (".hydra/config.yaml", "a: [", "config: .hydra/config.yaml: cannot be read"),
        ("predictions.csv", None, "predictions.csv: no such file"),
    ],
)
def test_a_damaged_part_is_named_and_the_others_are_there(
    make_run: MakeRun, name: str, content: str | None, says: str
) -> None:
    folder = complete_run(make_run)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    page, (problem,) = render_run_page(folder, examples=EXAMPLES)
    assert problem.startswith(says)
    assert says in page.partition('id="problems"')[2].partition("</ul>")[0]
    assert 'id="reproduce"' in page and page.rstrip().endswith("</html>")
    assert ('id="flow"' in page) == (name != "gradient_flow.csv")


def test_a_checkpoint_that_cannot_be_used_is_named(make_run: MakeRun) -> None:
    def refuse(checkpoint: Path, found: Sequence[TopLoss]) -> Iterator[AttributedText]:
        raise CheckpointError(f"{checkpoint}: contains more than plain data")
        yield

    page, (problem,) = render_run_page(complete_run(make_run), examples=Examples(attribute=refuse))
    assert problem == "attributions of words: checkpoints/best.ckpt: contains more than plain data"
    assert page.count("<article") == 3


WRONG = ["<b>x", 7, -1.5, 10**400, [1], {"<i>": EVIL}, None, True, [EVIL] * 3, ""]


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_values_of_another_kind_stop_nothing(make_run: MakeRun, value: Any) -> None:
    folder = complete_run(make_run)
    result = json.loads((folder / "result.json").read_text())
    kept = {"schema_version", "model", "data"}
    wrong = {name: found if name in kept else value for name, found in result.items()}
    wrong |= dict.fromkeys(("thresholds", "rollbacks", "machine", "batch_halvings"), value)
    wrong["calibration"] = {"temperature": value}
    wrong["data"] = {"name": EVIL, **dict.fromkeys(
        ("texts", "num_examples", "source_info", "options", "class_names", "task"), value
    )}  # fmt: skip
    (folder / "result.json").write_text(json.dumps(wrong))
    page = page_of(folder)
    assert 'id="environment"' in page and 'id="flow"' in page
    assert "<script" not in page and "<img" not in page and "<i>" not in page


@pytest.mark.parametrize("status", ["failed", "pruned", "unfinished"])
def test_a_run_without_a_result(tmp_path: Path, status: str) -> None:
    folder = write_job(tmp_path, "run", status=status, optimizer__lr=0.1)
    page, problems = render_run_page(folder)
    assert problems == []
    assert f"The run is {status}" in page and 'id="learning"' in page
    assert ("CUDA out of memory" in page) == (status == "failed")
    assert "rnn-lab train optimizer.lr=0.1" in page


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        render_run_page(tmp_path / "nowhere")
    write_job(tmp_path / "sweep", "run")
    with pytest.raises(CheckpointError, match="that of a sweep as sweep="):
        render_run_page(tmp_path / "sweep")


# ---- Links between the pages of a sweep and of its runs


def test_the_pages_of_a_sweep_and_its_runs_link_to_each_other(tmp_path: Path) -> None:
    sweep = tmp_path / "a sweep#1"
    first, second = write_job(sweep, "x=1/a b"), write_job(sweep, "c")
    alone = render_run_page(first)[0]
    assert 'id="sweep"' not in alone
    write_run_page(first, first / "run.html")
    page = render_page(sweep, read_jobs(sweep))
    assert 'href="./x%3D1/a%20b/run.html"' in page and f'href="./{second.name}/"' in page
    write_page(sweep, read_jobs(sweep), sweep)
    assert 'id="sweep" href="../../sweep.html">Sweep <bdi>a sweep#1</bdi>' in page_of(first)
    elsewhere = render_run_page(first, tmp_path / "there" / "run.html")[0]
    assert 'href="../a%20sweep%231/sweep.html"' in elsewhere


# ---- In a browser


CONTRASTS = """
[...document.querySelectorAll(".text span, .matrix td.cell, .note, p, h2, td, dd")].map(one => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], under) =>
    [r, g, b].map((part, i) => part * a + under[i] * (1 - a));
  const chain = [];
  for (let at = one; at; at = at.parentElement)
    chain.unshift(numbers(getComputedStyle(at).backgroundColor));
  const paper = chain.reduce((under, top) => over(top, under), [255, 255, 255]);
  const luminance = rgb => {
    const [r, g, b] = rgb.map(part => part / 255)
      .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [luminance(paper), luminance(numbers(getComputedStyle(one).color))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}).filter(contrast => contrast < 4.5)
"""
OUTSIDE = """
[...document.querySelectorAll("figure svg text, figure svg circle")].filter(one => {
  const inner = one.getBoundingClientRect();
  return inner.left < 0 || inner.right > innerWidth + 1;
}).map(one => one.textContent)
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_window_in_both_schemes(
    browser: Chromium, make_run: MakeRun, scheme: str
) -> None:
    classes = (EVIL, "a class with a very long name of many words", *map(str, range(4)))
    folder = complete_run(make_run, classes)
    page = folder / "run.html"
    write_run_page(folder, page, EXAMPLES)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", features=media)
    for width in (320, 390, 1400):
        browser.open(page, width=width)
        assert browser.errors == []
        assert browser.requests == [page.resolve().as_uri()]
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value(OUTSIDE) == []
    assert browser.value(CONTRASTS) == []
    assert browser.value("document.title") == "Run gru-imdb-1"
    assert browser.value("document.images.length + document.scripts.length") == 0
    assert EVIL in browser.value("document.querySelector('.matrix').innerText")
    # Each chart has a name and a table; what scrolls can be scrolled by keyboard.
    assert browser.value("document.querySelectorAll('figure svg[role=img][aria-label]').length") \
        == browser.value("document.querySelectorAll('.values table').length") == 10  # fmt: skip
    scrolling = "[...document.querySelectorAll('.wide, .text')]"
    assert browser.value(f"{scrolling}.every(one => one.tabIndex == 0 && one.ariaLabel)")
    missing = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash))"
    assert browser.value(f"{missing}.length") == 0


def test_values_are_finite_however_odd_the_numbers(make_run: MakeRun) -> None:
    folder = complete_run(make_run)
    rows = ["epoch,step,train/loss,val/loss,val/accuracy,lr"]
    rows += ["0,9,inf,nan,,1e-300", "1,19,3,-inf,0.5,1e30", "2,29,1e30,-1e30,0.5,nan"]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    flow = "step,layer,direction,distance,norm\n0,0,forward,0,0\n0,0,forward,1,inf\n"
    (folder / "gradient_flow.csv").write_text(flow)
    page, problems = render_run_page(folder, examples=EXAMPLES)
    assert problems == []
    drawn = page.partition('id="learning"')[2].partition('id="confusion"')[0]
    assert "nan" not in drawn.partition("<details")[0] and "M" in drawn
    assert np.isfinite([float(x) for x in _coordinates(drawn)]).all()


def _coordinates(markup: str) -> list[str]:
    return re.findall(r'\bc[xy]="([^"]*)"', markup)
