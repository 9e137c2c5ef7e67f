"""Predictions of files that are one text each."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from rnn_lab.commands import export
from rnn_lab.inference.predict import predict

LETTERS = {"a.txt": "an awful film\n\nand awful music\n", "deep/b.txt": "lovely\r\nlovely"}


@pytest.fixture
def letters(tmp_path, monkeypatch) -> Path:
    """A folder of texts, one of them empty, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, text in {**LETTERS, "empty.txt": ""}.items():
        path = tmp_path / "letters" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return tmp_path / "letters"


@pytest.fixture
def run(mood_run, tmp_path) -> Path:
    """A run whose files say that it was trained on class folders."""
    folder = tmp_path / "run"
    shutil.copytree(mood_run, folder)
    result = json.loads((folder / "result.json").read_text())
    result["data"]["source_info"]["train_path"] = {"format": "class folders", "encoding": "utf-8"}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def labels(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_has_one_table_with_a_row_for_each_file(letters, run, capsys):
    predict({"run": str(run), "input": "letters", "output": "labelled.csv"})
    rows = labels(Path("labelled.csv"))
    found = [(row["line"], row["id"], row["error"]) for row in rows]
    assert found == [("1", "a.txt", ""), ("2", "empty.txt", "empty text"), ("3", "deep/b.txt", "")]
    error = capsys.readouterr().err
    assert "letters: a file is one text, as in training; one_text_per=line labels each" in error
    assert "empty.txt: empty text\n2 of 3 texts labelled" in error
    for row, text in zip(rows[::2], LETTERS.values(), strict=True):
        predict({"run": str(run), "text": text})
        assert row["label"] == capsys.readouterr().out.splitlines()[0]

    predict({"run": str(run), "input": ["letters/a.txt", "letters/deep/b.txt"]})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["id"], line["label"]) for line in lines] == [
        ("a.txt", rows[0]["label"]),
        ("b.txt", rows[2]["label"]),
    ]


def test_each_file_has_one_label_in_shards_and_alone(letters, run, capsys):
    (letters / "empty.txt").unlink()
    for shard in ("0/2", "1/2"):
        predict({"run": str(run), "input": "letters", "output": "out", "shard": shard})
    for name in LETTERS:
        assert Path("out", f"{name}.jsonl").read_text().count("\n") == 1
    capsys.readouterr()
    predict({"run": str(run), "input": "letters/a.txt"})
    assert capsys.readouterr().out.count("\n") == 1
    predict({"run": str(run), "input": "letters/a.txt", "one_text_per": "line"})
    assert capsys.readouterr().out.count("\n") == 3


def test_an_ensemble_reads_whole_files_if_all_of_its_runs_did(letters, run, mood_run, capsys):
    for runs in ([run, mood_run], [mood_run, run]):
        predict({"run": [*map(str, runs)], "input": "letters/a.txt"})
        assert capsys.readouterr().out.count("\n") == 3
    predict({"run": [str(run)] * 2, "input": "letters/a.txt"})
    assert capsys.readouterr().out.count("\n") == 1


def test_the_option_reads_files_of_any_ending(letters, mood_run, capsys):
    (letters / "empty.txt").rename(letters / "c.md")
    (letters / "c.md").write_text("passable")
    mine = {"run": str(mood_run), "input": "letters", "output": "labelled.jsonl"}
    predict({**mine, "one_text_per": "file"})
    lines = [json.loads(line) for line in Path("labelled.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a.txt", "c.md", "deep/b.txt"]
    assert "as in training" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
def test_an_exported_file_knows_what_its_texts_were(letters, documents_run, name, capsys):
    export([f"run={documents_run}", f"output={name}"])
    capsys.readouterr()
    predict({"run": name, "input": "letters/a.txt"})
    assert capsys.readouterr().out.count("\n") == 1


@pytest.fixture(scope="module")
def documents_run(mood_reviews, tmp_path_factory) -> Path:
    """A run that was trained on class folders."""
    from tests.cli.forked import run_warm_command

    cwd = tmp_path_factory.mktemp("documents")
    with mood_reviews.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            path = cwd / "texts" / row["label"] / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(row["review"])
    done = run_warm_command(
        "train.py",
        *("data=files", "data.train_path=texts", "hydra.run.dir=run", "logger=none", "test=false"),
        *("model.hidden_size=8", "model.embedding_dim=8", "data.batch_size=64", "plots=false"),
        *("trainer.max_epochs=1", "baseline=none"),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return cwd / "run"
