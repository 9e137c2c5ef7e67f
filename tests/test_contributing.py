"""The examples of CONTRIBUTING.md and docs/extending.md work as they are printed.

A comment before a code block names the file it is, or says that its commands are run, and with
which options more. All files are written into one folder outside the package, as a user would, and
the commands run there.
"""

import csv
import functools
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.forked import run_warm_command
from tests.cli.runner import PROJECT

DOCUMENTS = ("CONTRIBUTING.md", "docs/extending.md")
BLOCK = re.compile(
    r"^<!-- (?:file: (?P<file>\S+)|run(?: with: (?P<options>[^\n]+))?) -->\n"
    r"```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
Run = Callable[[str], Path]


def sections(document: str) -> dict[str, str]:
    """Return the text under each heading of the second level."""
    text = (PROJECT / document).read_text(encoding="utf-8")
    _, *parts = re.split(r"^## (.*)\n", text, flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def commands(section: str) -> list[list[str]]:
    """Return the arguments of each command that a section has run, and the options to add."""
    return [
        shlex.split(f"{line} {block['options'] or ''}" if " train " in line else line)
        for block in BLOCK.finditer(section)
        if block["file"] is None
        for line in block["text"].replace("\\\n", " ").splitlines()
    ]


SECTIONS = {title: text for document in DOCUMENTS for title, text in sections(document).items()}
EXAMPLES = [title for title, text in SECTIONS.items() if commands(text)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs the commands of a section once, and returns the folder."""
    folder = tmp_path_factory.mktemp("project")
    commands_of = {title: commands(text) for title, text in SECTIONS.items()}
    for text in SECTIONS.values():
        for block in BLOCK.finditer(text):
            if block["file"] is not None:
                path = folder / block["file"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block["text"], encoding="utf-8")

    @functools.cache
    def error_of(title: str) -> str:
        for command in commands_of[title]:
            done = run_one(command, folder)
            if done.returncode:
                return f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
        return ""

    def run_section(title: str) -> Path:
        assert not error_of(title), error_of(title)
        return folder

    return run_section


def run_one(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `rnn-lab <name> <arguments>`."""
    program, *arguments = command
    assert program == "rnn-lab"
    return run_warm_command("rnn_lab/commands.py", *arguments, cwd=folder)


def result_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "result.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_example_escapes(document: str) -> None:
    text = (PROJECT / document).read_text(encoding="utf-8")
    printed = len(re.findall(r"^```(?:python|yaml)$", text, flags=re.M))
    written = [block for block in BLOCK.finditer(text) if block["file"]]
    assert printed == len(written)
    assert all(block["language"] in ("python", "yaml") for block in written)


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_example_runs(run: Run, title: str) -> None:
    run(title)


def test_the_cell_is_explained_with_its_own_gates(run: Run) -> None:
    folder = run("Add a cell")
    assert result_of(folder / "runs/mgu")["model"]["name"] == "mgu"
    assert (folder / "why/explanation.html").exists()
    about = json.loads((folder / "why/explanation.json").read_text(encoding="utf-8"))
    assert "forget gate" in json.dumps(about["values"]["f"])
    with np.load(folder / "why/states.npz") as states:
        assert any(name.endswith("_f") for name in states.files), states.files


def test_the_cell_resumes(run: Run) -> None:
    folder = run("Add a cell")
    run_dir = folder / "runs/mgu"
    before = result_of(run_dir)
    (run_dir / "result.json").unlink()
    train, *_ = commands(SECTIONS["Add a cell"])

    done = run_one(train, folder)

    assert done.returncode == 0, done.stderr
    assert "resume" in done.stdout + done.stderr
    after = result_of(run_dir)
    metrics = [name for name in before if name.startswith(("val/", "test/"))]
    assert metrics
    assert {name: after[name] for name in metrics} == {name: before[name] for name in metrics}


def test_the_source_gives_its_own_texts(run: Run) -> None:
    data = result_of(run("Add a data source") / "runs/sums")["data"]
    assert data["class_names"] == ["even", "odd"]
    assert data["options"]["source"] == "sums"


def test_the_callback_logs(run: Run) -> None:
    path = run("Add a callback") / "runs/weight_norm/metrics.csv"
    with path.open(newline="", encoding="utf-8") as file:
        logged = [row["weight_norm"] for row in csv.DictReader(file) if row["weight_norm"]]
    assert len(logged) == 1  # one epoch
    assert float(logged[0]) > 0


def test_pooling_schedule_loss_and_metric_are_used(run: Run) -> None:
    run_dir = run("Pooling, schedule, loss and metric") / "runs/parts"
    result = result_of(run_dir)
    assert result["model"]["pooling"] == "first_and_mean"
    assert result["scheduler"]["name"] == "staircase"
    assert result["loss"]["brier"] == 0.5
    assert "train/loss_brier" in (run_dir / "metrics.csv").read_text(encoding="utf-8")
    assert result["test/error_rate"] == pytest.approx(1 - result["test/accuracy"])


def test_the_tokenizer_explains_its_own_words(run: Run) -> None:
    folder = run("Tokenizer")
    assert result_of(folder / "runs/stems")["data"]["options"]["tokenizer"] == "stems"
    about = json.loads((folder / "why_stems/explanation.json").read_text(encoding="utf-8"))
    assert [word["word"] for word in about["words"]] == ["not", "bor", "at", "all"]


def test_the_tokenizer_predicts_the_same_from_every_file(run: Run) -> None:
    folder = run("Tokenizer")
    (folder / "texts.txt").write_text("Not boring at all.\nIt bored me\n", encoding="utf-8")
    found = []
    for model in ("runs/stems", "stems.safetensors", "stems.onnx"):
        options = [f"run={model}", "plugins=[stems]", "input=texts.txt", f"output={model}.jsonl"]
        done = run_one(["rnn-lab", "predict", *options], folder)
        assert done.returncode == 0, done.stderr
        lines = (folder / f"{model}.jsonl").read_text(encoding="utf-8").splitlines()
        found.append([json.loads(line)["probabilities"]["positive"] for line in lines])
    assert found[0] == found[1]
    assert found[2] == pytest.approx(found[0], abs=1e-4)


def test_the_tokenizer_resumes(run: Run) -> None:
    folder = run("Tokenizer")
    before = result_of(folder / "runs/stems")
    (folder / "runs/stems/result.json").unlink()
    train, *_ = commands(SECTIONS["Tokenizer"])
    done = run_one(train, folder)
    assert done.returncode == 0, done.stderr
    assert "resume" in done.stdout + done.stderr
    after = result_of(folder / "runs/stems")
    assert after["val/loss"] == before["val/loss"]
    assert after["data"]["vocabulary_fingerprint"] == before["data"]["vocabulary_fingerprint"]


@pytest.mark.parametrize(
    ("model", "end"),
    [
        (
            "runs/stems",
            "the plugin that defines data.tokenizer=stems; load it with plugins=[stems]",
        ),
        ("stems.safetensors", "data.tokenizer=stems; load it with plugins=[<its module>]"),
        ("stems.onnx", "if a plugin defines it, load that: plugins=[<module>]"),
    ],
)
def test_without_the_tokenizer_a_run_is_one_line(run: Run, model: str, end: str) -> None:
    done = run_one(["rnn-lab", "predict", f"run={model}", "text=good"], run("Tokenizer"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {model}")
    assert "tokenizer=stems" in line or "tokenizer is 'stems'" in line
    assert line.endswith(end)


def test_a_mistyped_tokenizer_names_those_of_plugins(run: Run) -> None:
    options = ["plugins=[stems]", "data.tokenizer=stem", "experiment=smoke"]
    done = run_one(["rnn-lab", "train", *options], run("Tokenizer"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: data.tokenizer=stem: impossible value. Did you mean stems?")
    assert "auto, basic_english, bpe, byte, char, stems, torchtext, or the path" in line


def test_the_optimizer_has_its_arguments(run: Run) -> None:
    optimizer = result_of(run("Optimizer") / "runs/nadam")["optimizer"]
    assert optimizer["name"].lower() == "nadam"
    assert optimizer["betas"] == [0.9, 0.95]


def test_the_experiment_sets_its_options(run: Run) -> None:
    result = result_of(run("Experiment") / "runs/small_lstm")
    assert result["model"]["name"] == "lstm"
    assert result["model"]["bidirectional"] is True
