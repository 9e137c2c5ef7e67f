"""The README is short, names every task, and its links and commands are right."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rnn_lab.command_line import take_text_literally
from tests.cli.runner import PROJECT
from tests.test_conf import composed

PAGES = [
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((PROJECT / "docs").glob("*.md")),
    PROJECT / "benchmarks/README.md",
]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
TASKS = """
install train text output resume reproduce evaluate predict explain export python sweep
hyperparameters parallel slurm track extend results speed layout torchtext
"""
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```(?:bash)?\n(?P<text>.*?)^```$", re.M | re.S)
# Not in the composed config: a folder or a checkpoint of the reader's.
PLACEHOLDER = re.compile(r"<[^>]*>")


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(FENCE, "", text), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def train_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every `train.py` command of the pages that neither resumes nor reproduces a run."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in FENCE.finditer(text):
            for line in block["text"].replace("\\\n", " ").splitlines():
                match = re.match(r"(?:\S*/)?python train\.py (.*)", line)
                if match and not PLACEHOLDER.search(line) and "reproduce=" not in line:
                    yield f"{page.name}: {line}", shlex.split(match[1], comments=True)


def test_the_readme_is_short_and_names_every_task() -> None:
    assert len(README.splitlines()) <= 200
    headings = " ".join(re.findall(r"^## (.*)$", README, flags=re.M)).lower()
    assert [task for task in TASKS.split() if task not in headings] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for match in LINK.finditer(re.sub(FENCE, "", page.read_text(encoding="utf-8"))):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("https:", "http:")):
            continue
        path = page.parent / target if target else page
        if not path.exists() or (
            anchor and anchor not in anchors(path.read_text(encoding="utf-8"))
        ):
            broken.append(match["target"])
    assert not broken


def test_the_python_example_runs(
    mood_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, flags=re.M | re.S)
    names: dict[str, Any] = {"inputs": torch.zeros(2, 5, 128), "lengths": torch.tensor([5, 3])}
    monkeypatch.chdir(tmp_path)
    exec(code.replace("<run dir>", str(mood_run)), names)
    assert names["outputs"].shape == (2, 5, 128)
    assert (tmp_path / "why" / "explanation.html").exists()


COMMANDS = dict(train_commands())


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_composes(line: str) -> None:
    overrides = [
        argument
        for argument in COMMANDS[line]
        if argument not in ("-m", "--help") and not argument.startswith("hydra/sweeper=")
    ]
    # One value of those that a sweep or a search lists; its folder is Hydra's to check.
    plain = [
        re.sub(r"^([\w./@]+)=([^\[\]{}()]*?),.*$", r"\1=\2", override)
        for override in overrides
        if not override.startswith("hydra.") and "(" not in override
    ]
    composed(*take_text_literally(plain, "train"))
