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


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path):
    write_tickets(tmp_path / "tickets.csv", 200)
    write_tickets(tmp_path / "new.csv", 30)
    lines = [line for block in BLOCK.finditer(PAGE) for line in block["text"].splitlines()]
    assert len(lines) == 6
    for line in lines:
        _, script, *arguments = shlex.split(line)
        done = run_warm_command(script, *arguments, cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    result = json.loads((tmp_path / "runs" / "tickets" / "result.json").read_text())
    assert result["data"]["options"]["label_column"] is None  # inferred, as the body was
    assert result["test/accuracy"] > 0.9
    labelled = (tmp_path / "labelled.csv").read_text().splitlines()
    assert len(labelled) == 31
    assert (tmp_path / "tested" / "result.json").exists()


def test_every_option_that_the_recipe_chooses_is_on_the_page():
    for group, names in AUTO_OPTIONS.items():
        for name in names:
            # How many weights n-grams share is left to conf/model.
            assert f"`{group}.{name}`" in PAGE or name == "ngram_buckets"
