"""The commands of docs/own_texts.md work as they are printed, in their order."""

import csv
import json
import random
import shlex
from pathlib import Path

import pytest

from rnn_lab.training.recipe import AUTO_OPTIONS
from tests.cli.forked import run_warm_command
from tests.cli.runner import PROJECT
from tests.test_contributing import BLOCK

PAGE = (PROJECT / "docs" / "own_texts.md").read_text(encoding="utf-8")
WORDS = {"billing": "charged", "login": "password", "delivery": "parcel"}


def write_tickets(path: Path, number: int) -> None:
    draw = random.Random(number)
    filler = ["I", "was", "this", "month", "twice", "my", "please", "help", "again", "the"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["subject", "body", "queue"])
        for i in range(number):
            queue = draw.choice([*WORDS, "billing"])
            body = [*draw.choices(filler, k=8), WORDS[queue], *draw.choices(filler, k=4)]
            writer.writerow([f"ticket {i}", " ".join(body), queue])


def write_others(folder: Path) -> None:
    """Write texts with several labels, texts of authors, and texts without labels."""
    tables = {"topics.csv": [("text", "labels")], "reviews.csv": [("text", "label", "author")]}
    for i in range(60):
        labels = [label for n, label in enumerate("abc") if i % (n + 2) == 0]
        text = f"a film {i} about {' and '.join(labels) or 'nothing'}"
        tables["topics.csv"].append((text, ",".join(labels)))
        tables["reviews.csv"].append((text, "ab"[i % 2], f"author {i % 12}"))
    for name, rows in tables.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    (folder / "more.txt").write_text("the parcel was charged twice this month\n" * 20)


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path):
    write_tickets(tmp_path / "tickets.csv", 200)
    write_tickets(tmp_path / "new.csv", 30)
    write_others(tmp_path)
    lines = [line for block in BLOCK.finditer(PAGE) for line in block["text"].splitlines()]
    assert len(lines) == 11
    for line in lines:
        _, script, *arguments = shlex.split(line)
        if script == "train.py" and line != lines[0]:  # the others are not asked for their metrics
            arguments.append("plots=false")
            if "trainer.max_epochs" not in line:
                arguments.append("trainer.max_epochs=1")
        done = run_warm_command(script, *arguments, cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    result = json.loads((tmp_path / "runs" / "tickets" / "result.json").read_text())
    assert result["data"]["options"]["label_column"] is None  # inferred, as the body was
    assert result["test/accuracy"] > 0.9
    labelled = (tmp_path / "labelled.csv").read_text().splitlines()
    assert len(labelled) == 31
    assert (tmp_path / "tested" / "result.json").exists()

    def data_of(run: str) -> dict:
        return json.loads((tmp_path / "runs" / run / "result.json").read_text())["data"]

    assert data_of("topics")["task"] == "multilabel"
    assert data_of("groups")["source_info"]["train_path"]["group_column"] == "author"
    assert len(list((tmp_path / "runs" / "folds").glob("*/result.json"))) == 3


def test_every_option_that_the_recipe_chooses_is_on_the_page():
    for group, names in AUTO_OPTIONS.items():
        for name in names:
            # How many weights n-grams share is left to conf/model.
            assert f"`{group}.{name}`" in PAGE or name == "ngram_buckets"
