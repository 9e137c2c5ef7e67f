"""Every command of the pages is run as a reader would, or a comment above it says why not.

CONTRIBUTING.md lists the comments. The commands of a page run one after the other in one folder,
which has the files that the pages speak of. test_contributing.py runs those of its DOCUMENTS, and
tests/tracking those of docs/wandb.md.
"""

import csv
import json
import random
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import rnn_lab
from tests.cli.forked import run_warm_command
from tests.cli.runner import PROJECT
from tests.data.made import word_piece
from tests.test_contributing import DOCUMENTS

DOCS = PROJECT / "docs"
OTHERS = [PROJECT / name for name in ("CONTRIBUTING.md", "benchmarks/README.md")]
PAGES = [*sorted(DOCS.glob("*.md")), *OTHERS]
CODE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
MARK = re.compile(r"run|run with: (?P<options>.+)|file: \S+|not run: (?P<reason>.+)")
PROGRAM = re.compile(r"^(?:\$ )?(?:\S*/)?(?:python3?|rnn-lab|pip|jupyter|bash) ", re.M)
QUEUES = {"billing": "charged", "login": "password", "delivery": "parcel"}
MOODS = {"bad": "awful", "good": "lovely"}


class Block(NamedTuple):
    """A code block of a page, with the comment above it."""

    mark: str
    language: str
    text: str

    @property
    def is_run(self) -> bool:
        return self.mark == "run" or self.mark.startswith("run with: ")

    @property
    def options(self) -> list[str]:
        """What is added to each command."""
        match = MARK.fullmatch(self.mark)
        return shlex.split(match["options"] or "") if match else []


def blocks(page: Path) -> list[Block]:
    found = CODE.finditer(page.read_text(encoding="utf-8"))
    return [Block(match["mark"] or "", match["language"], match["text"]) for match in found]


def unmarked(found: Sequence[Block]) -> Iterator[str]:
    """Yield the code that no comment accounts for, and comments that name a test in vain."""
    for block in found:
        mark = MARK.fullmatch(block.mark)
        is_code = block.language in ("bash", "python") or PROGRAM.search(block.text)
        if is_code and mark is None:
            yield f"{block.mark}\n{block.text}"
        for path in re.findall(r"(?:tests|\.ci)/[\w/.]*\w", (mark and mark["reason"]) or ""):
            if not (PROJECT / path).exists():
                yield block.mark


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_run_or_says_why_not(page: Path) -> None:
    assert list(unmarked(blocks(page))) == []


def test_a_command_without_a_comment_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for wrong in ("", "<!-- not run: -->\n", "<!-- see below -->\n", "<!-- run -->\n\n"):
        for language in ("bash", "", "console"):
            page.write_text(f"Text\n\n{wrong}```{language}\npython train.py\n```\n")
            assert len(list(unmarked(blocks(page)))) == 1, (wrong, language)
    page.write_text("<!-- not run: see tests/nowhere.py -->\n```bash\npython train.py\n```\n")
    assert len(list(unmarked(blocks(page)))) == 1
    page.write_text("<!-- run -->\n```bash\npython train.py\n```\n\n```\nprinted\n```\n")
    assert list(unmarked(blocks(page))) == []


def test_the_index_has_every_page() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [path.name for path in DOCS.iterdir() if path.suffix in (".md", ".ipynb")]
    assert [name for name in pages if f"]({name})" not in index] == ["README.md"]


RUN = [
    page
    for page in PAGES
    if any(block.is_run for block in blocks(page))
    and page.relative_to(PROJECT).as_posix() not in (*DOCUMENTS, "docs/wandb.md")
]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_commands_of_the_page(
    page: Path, tmp_path: Path, mood_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path)
    run_dir = shutil.copytree(mood_run, tmp_path / "My Project (v2)" / "runs" / "first")
    monkeypatch.chdir(tmp_path)
    texts = [f"a {MOODS[label]} film {i}" for i, label in enumerate(["bad", "good"] * 30)]
    names: dict[str, Any] = {"rnn_lab": rnn_lab, "texts": texts, "labels": ["bad", "good"] * 30}
    for block in blocks(page):
        if block.mark.startswith("file: "):
            (tmp_path / block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
        if not block.is_run:
            continue
        if block.language == "python":
            exec(block.text.replace("<run dir>", str(run_dir)), names)
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.replace("<run dir>", "<run_dir>"), comments=True)
            program, *arguments = [word.replace("<run_dir>", str(run_dir)) for word in words]
            assert program in ("python", "rnn-lab"), line
            command = arguments.pop(0) if program == "python" else "rnn_lab/commands.py"
            done = run_warm_command(command, *arguments, *block.options, cwd=tmp_path)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    CHECKS.get(page.name, lambda folder: None)(tmp_path)


def write_files(folder: Path) -> None:
    """Write the files that the pages speak of."""
    draw = random.Random(0)
    filler = ["I", "was", "this", "month", "twice", "my", "please", "help", "again", "the"]

    def text(word: str) -> str:
        return " ".join([*draw.choices(filler, k=8), word, *draw.choices(filler, k=4)])

    def write(name: str, rows: Sequence[Sequence[str]], delimiter: str = ",") -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows(rows)

    for name, number in (("tickets.csv", 200), ("new.csv", 30)):
        queues = [draw.choice([*QUEUES, "billing"]) for _ in range(number)]
        rows = [[f"ticket {i}", text(QUEUES[queue]), queue] for i, queue in enumerate(queues)]
        write(name, [["subject", "body", "queue"], *rows], ";")
    labels = ["bad", "good"] * 60
    rated = [[text(MOODS[label]), label, f"author {i % 12}"] for i, label in enumerate(labels)]
    for name in ("mine.csv", "moved/mine.csv", "dev.csv", "test.csv", "reviews.csv"):
        write(name, [["text", "label", "author"], *rated])
    write("Sales & Co; a=b.csv", [["text", "label"], *(row[:2] for row in rated)])
    write("news.csv", [[label, f"title {i}", text] for i, (text, label, _) in enumerate(rated)])
    names = {"bad": "差评", "good": "好评"}
    write("données.csv", [["текст", "label"], *([text, names[label]] for text, label, _ in rated)])
    topics = [[name for n, name in enumerate("abc") if i % (n + 2) == 0] for i in range(60)]
    abouts = [
        [f"a film about {' and '.join(some) or 'nothing'}", ";".join(some)] for some in topics
    ]
    write("topics.csv", [["text", "labels"], *abouts])
    for i, (content, label, _) in enumerate(rated):
        path = folder / "texts" / label / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "more.txt").write_text("the parcel was charged twice this month\n" * 20)
    vector = " 0.1" * 100
    (folder / "glove.6B.100d.txt").write_text("".join(f"{word}{vector}\n" for word in filler))
    (folder / "mine").mkdir()
    (folder / "mine" / "tokenizer.json").write_text(word_piece([*filler, *MOODS.values()]))


def check_own_texts(folder: Path) -> None:
    result = json.loads((folder / "runs" / "tickets" / "result.json").read_text())
    assert result["data"]["options"]["label_column"] is None  # inferred, as the body was
    assert result["test/accuracy"] > 0.9
    assert len((folder / "labelled.csv").read_text().splitlines()) == 31
    assert (folder / "tested" / "result.json").exists()

    def data_of(run: str) -> dict:
        return json.loads((folder / "runs" / run / "result.json").read_text())["data"]

    assert data_of("topics")["task"] == "multilabel"
    assert data_of("groups")["source_info"]["train_path"]["group_column"] == "author"
    assert len(list((folder / "runs" / "folds").glob("*/result.json"))) == 3


def check_sweeps(folder: Path) -> None:
    assert len(list((folder / "runs" / "first").glob("*/result.json"))) == 9
    assert len(list((folder / "runs" / "mine").glob("*/result.json"))) == 2


def check_explain(folder: Path) -> None:
    for name in ("why", "why_in_python"):
        assert "dull" in (folder / name / "explanation.html").read_text()


def check_data(folder: Path) -> None:
    assert (folder / "runs" / "mine" / "result.json").exists()  # trained in Python


CHECKS: dict[str, Callable[[Path], None]] = {
    "own_texts.md": check_own_texts,
    "sweeps.md": check_sweeps,
    "explain.md": check_explain,
    "data.md": check_data,
}
