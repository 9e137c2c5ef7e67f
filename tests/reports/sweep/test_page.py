"""sweep.html in a real Chromium: every run, every table, no error, no request."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rnn_lab.reports.sweep.jobs import read_jobs
from rnn_lab.reports.sweep.page import render_page
from rnn_lab.reports.sweep.report import report_sweep
from tests.reports.chromium import Chromium
from tests.reports.sweep_folders import write_job

OUTSIDE = """
[...document.querySelectorAll("svg text, svg circle")].filter(one => {
  const inner = one.getBoundingClientRect();
  const outer = one.closest("svg").getBoundingClientRect();
  return inner.left < outer.left - 1 || inner.right > outer.right + 1
    || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
}).map(one => one.textContent)
"""


def show(browser: Chromium, sweep: Path, width: int = 1400) -> list[str]:
    """Report the sweep, open its page and return the runs in its table."""
    report_sweep(sweep, Console(file=io.StringIO()))
    browser.open(sweep / "sweep.html", width=width)
    check(browser, sweep / "sweep.html")
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(OUTSIDE) == []
    return browser.texts("#runs tbody td.name")


def check(browser: Chromium, page: Path) -> None:
    """Assert that the script ran without an error and the page requested only itself."""
    assert browser.errors == []
    assert browser.value("document.documentElement.dataset.ready") == "yes"
    assert browser.requests == [page.resolve().as_uri()]


def column(browser: Chromium, heading: str) -> list[str]:
    headings = [text.rstrip("↕↑↓ ") for text in browser.texts("#runs thead th")]
    return browser.texts(f"#runs tbody td:nth-child({headings.index(heading) + 1})")


def twelve_runs(folder: Path) -> Path:
    """Write two models, two learning rates, three seeds; test metrics in the opposite order."""
    random = np.random.default_rng(0)
    for i in range(12):
        model, rate, seed = ("lstm", "gru")[i % 2], (1e-5, 0.004)[i // 2 % 2], i // 4 + 1
        accuracy = 0.8 + 0.02 * (i % 2) + 0.03 * (i // 2 % 2) + random.normal(0, 0.003)
        write_job(
            folder, f"{model}_{i:02}", accuracy=float(accuracy), seed=seed, model__name=model,
            optimizer__lr=rate, correct=random.random(200) < 1.6 - accuracy,
        )  # fmt: skip
    return folder


def test_twelve_runs(browser: Chromium, tmp_path: Path) -> None:
    sweep = twelve_runs(tmp_path / "twelve")
    jobs = report_sweep(sweep, Console(file=io.StringIO()))
    assert show(browser, sweep) == [job.name for job in jobs]
    assert [job.rank for job in jobs] == list(range(1, 13))
    assert len(browser.texts("#curves .line")) == len(browser.texts("#parallel .line")) == 12
    words = browser.value("document.body.innerText")
    assert "Selection uses validation only." in words
    assert "10,000 resamples each, seed 0" in words

    groups = browser.texts("#groups tbody tr td:nth-child(1)")
    assert groups == [f"model={m}, lr={lr}" for lr in ("0.004", "1e-05") for m in ("gru", "lstm")]
    assert browser.texts("#groups tbody td:nth-child(2)") == ["3"] * 4
    assert len(browser.texts("#comparisons tbody tr")) == 6
    axes = browser.texts("#parallel text[font-weight] title")
    assert axes == ["model.name", "optimizer.lr", "val/accuracy"]


def test_macro_f1_of_the_test_split_names_that_of_each_class(tmp_path: Path) -> None:
    per_class = {name: {"f1": f1} for name, f1 in (("good", 0.91), ("<bad>", 0.0))}
    write_job(tmp_path, "a", result={"test/f1": 0.455, "per_class": per_class})
    page = render_page(tmp_path, read_jobs(tmp_path))
    assert 'title="F1 by class: good 91.00 %, &lt;bad&gt; 0.00 %">45.50 %</td>' in page


def test_a_click_sorts_but_not_by_test_columns(browser: Chromium, tmp_path: Path) -> None:
    show(browser, twelve_runs(tmp_path / "twelve"))
    browser.click("#runs th:nth-child(5) button")  # the rate
    assert column(browser, "lr") == ["1e-05"] * 6 + ["0.004"] * 6
    browser.click("#runs th:nth-child(5) button")
    assert column(browser, "lr") == ["0.004"] * 6 + ["1e-05"] * 6
    browser.click("#runs th:nth-child(7) button")
    losses = column(browser, "validation loss")
    assert losses == sorted(losses)
    browser.click("#runs th:nth-child(1) button")
    assert column(browser, "rank") == [str(rank) for rank in range(1, 13)]
    assert len(browser.texts("#runs th.t")) == 2
    assert browser.texts("#runs th.t button") == []
    assert browser.errors == []


def test_hovering_over_a_line_names_its_run(browser: Chromium, tmp_path: Path) -> None:
    write_job(tmp_path, "gru_1", accuracy=0.9, optimizer__lr=0.1, epochs=1)
    write_job(tmp_path, "gru_2", accuracy=0.5, optimizer__lr=0.2)
    show(browser, tmp_path)
    browser.point_at(*browser.middle("#curves [data-run=gru_2] circle"))
    tip = browser.value("document.getElementById('tip').innerText")
    assert tip == "gru_2 · rank 2 · validation accuracy 50.00 %\nlr=0.2"
    highlighted = browser.value(
        "[...document.querySelectorAll('.highlighted')].map(one => one.dataset.run)"
    )
    assert highlighted == ["gru_2"] * 3  # its row and its line in both charts
    browser.point_at(2, 2)
    assert browser.value("document.getElementById('tip').hidden")


def brush(browser: Chromium, axis: int, start: float, end: float) -> None:
    """Drag along an axis of the parallel coordinates, from and to shares of its length."""
    browser.middle("#parallel")  # scrolls it into view
    handle = f"document.querySelectorAll('#parallel .handle')[{axis}]"
    box = browser.value(f"{handle}.getBoundingClientRect().toJSON()")
    x = box["x"] + box["width"] / 2
    browser.drag((x, box["y"] + start * box["height"]), (x, box["y"] + end * box["height"]))


def selected(browser: Chromium) -> list[str]:
    lines = "[...document.querySelectorAll('#parallel .line:not(.unselected)')]"
    return sorted(browser.value(f"{lines}.map(one => one.dataset.run)"))


def test_brushing_an_axis_selects_the_runs_that_cross_it(browser: Chromium, tmp_path: Path) -> None:
    sweep = twelve_runs(tmp_path / "twelve")
    show(browser, sweep)
    every = sorted(browser.texts("#runs tbody td.name"))
    assert selected(browser) == every
    brush(browser, 0, 0.5, 1.0)  # the lower end of model.name
    gru = sorted(name for name in every if name.startswith("gru"))
    assert selected(browser) == gru
    assert browser.texts("#selected") == ["Selected: 6 of 12 runs."]
    rows = "[...document.querySelectorAll('#runs tbody tr.unselected')]"
    dimmed = browser.value(f"{rows}.map(one => one.dataset.run)")
    assert sorted(dimmed) == sorted(set(every) - set(gru))
    assert len(browser.texts("#curves .line.unselected")) == 6
    brush(browser, 1, 0.5, 0.0)  # the upper end of lr: narrows the selection
    assert selected(browser) == ["gru_03", "gru_07", "gru_11"]
    brush(browser, 0, 0.5, 0.5)  # a click clears the axis
    assert len(selected(browser)) == 6
    brush(browser, 1, 0.2, 0.2)
    assert selected(browser) == every
    assert browser.texts("#selected") == [""]
    assert browser.errors == []


def test_every_status_and_the_importances_of_a_search(browser: Chromium, tmp_path: Path) -> None:
    statuses = ["finished", "pruned", "failed", "unfinished"]
    for i, status in enumerate(statuses * 4):
        folder = write_job(
            tmp_path, f"{status}{i}", status=status, accuracy=0.8 + i / 100, epochs=i % 3 + 1,
            optimizer__lr=10.0 ** (-i / 4), trainer__patience=[None, 2, 5][i % 3],
            model__pooling=["last", "mean"][i % 2], model__bidirectional=i % 4 < 2,
        )  # fmt: skip
        (folder / "job.json").write_text(json.dumps({"trial": i, "overrides": []}))
    (tmp_path / "damaged" / ".hydra").mkdir(parents=True)
    (tmp_path / "damaged" / "result.json").write_text('{"val/accuracy": 0.9')
    shares = {"val/accuracy": {"optimizer.lr": 0.75, "model.pooling": 0.25}}
    (tmp_path / "importances.json").write_text(json.dumps({"importances": shares}))
    assert len(show(browser, tmp_path)) == 17
    shown = column(browser, "status")
    assert {status: shown.count(status) for status in shown} == {
        "finished": 4, "pruned": 4, "failed": 4, "unfinished": 4, "damaged": 1,
    }  # fmt: skip
    assert sorted(map(int, filter(None, column(browser, "trial")))) == list(range(16))
    assert len(browser.texts("#issues tbody tr")) == 9
    bars = browser.texts(".shares > div")
    assert bars == ["optimizer.lr", "", "75.0 %", "model.pooling", "", "25.0 %"]
    assert "log scale" in browser.texts("#parallel text")
    assert len(browser.texts("#parallel .line")) == 8


@pytest.mark.parametrize("width", [390, 1000, 1920])
def test_one_run_in_any_window(browser: Chromium, tmp_path: Path, width: int) -> None:
    write_job(tmp_path, "gru_seed1_3f9a2b1c")
    assert show(browser, tmp_path, width) == ["gru_seed1_3f9a2b1c"]
    assert browser.texts("#comparisons") == browser.texts(".shares") == []


@pytest.mark.slow
def test_two_hundred_runs(browser: Chromium, tmp_path: Path) -> None:
    for i in range(200):
        write_job(tmp_path, f"run {i}", accuracy=0.5 + i / 500, optimizer__lr=1e-4 * 1.03**i,
                  seed=i, examples=2)  # fmt: skip
    shown = show(browser, tmp_path)
    assert sorted(shown) == sorted(f"run {i}" for i in range(200))
    assert len(browser.texts("#curves .line")) == 200


def test_markup_in_names_and_values_is_only_text(browser: Chromium, tmp_path: Path) -> None:
    evil = (
        "</td><script>document.title='hacked'</script><img src=x onerror=document.title='hacked'>"
    )
    write_job(tmp_path, evil, model__name=evil, optimizer__name="'\"><svg onload=alert(1)>")
    write_job(tmp_path, "javascript:document.title='hacked'", accuracy=0.2)
    failed = write_job(tmp_path, "\" onmouseover=\"document.title='hacked'", status="failed")
    (failed / "failure.json").write_text(
        json.dumps({"error": evil, "log": evil, "overrides": [evil]})
    )
    (tmp_path / "importances.json").write_text(json.dumps({evil: 1.0}))
    shown = show(browser, tmp_path)
    assert evil in shown and len(shown) == 3
    assert evil in browser.value("document.querySelector('#issues').innerText")
    browser.point_at(*browser.middle("#curves .line circle"))
    links = browser.value("[...document.querySelectorAll('#runs a')].map(one => one.protocol)")
    assert links == ["file:"] * 3
    assert browser.value("document.title") == f"Sweep {tmp_path.name}"
    assert browser.value("document.images.length") == 0
    assert browser.errors == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"use strict";', '"use strict"; undefined_function();'),  # another script: not allowed
        ("<body>", "<body><script>undefined_function()</script>"),
        ("<body>", "<body><img src='https://example.org/x.png'>"),
        ("<body>", "<body onload='undefined_function()'>"),
    ],
)
def test_an_error_on_the_page_is_detected(
    browser: Chromium, tmp_path: Path, old: str, new: str
) -> None:
    write_job(tmp_path, "run")
    show(browser, tmp_path)
    page = tmp_path / "sweep.html"
    page.write_text(page.read_text().replace(old, new, 1))
    browser.open(page)
    with pytest.raises(AssertionError):
        check(browser, page)


def test_an_error_of_the_script_is_detected(
    browser: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from rnn_lab.reports.sweep import page as sweep_page

    for name in ("page.html", "page.js"):
        shutil.copy(sweep_page.TEMPLATES / name, tmp_path / name)
    script = tmp_path / "page.js"
    script.write_text(script.read_text().replace("let highlighted = [];", "tip.no_such();"))
    monkeypatch.setattr(sweep_page, "TEMPLATES", tmp_path)
    write_job(tmp_path / "sweep", "run")
    with pytest.raises(AssertionError, match="no_such is not a function"):
        show(browser, tmp_path / "sweep")
