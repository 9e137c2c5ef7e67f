"""Predictions of many files, and of shards of them."""

import csv
import gzip
import json
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rnn_lab.commands import export
from rnn_lab.errors import UserError
from rnn_lab.inference.predict import predict
from rnn_lab.io.locks import LockHeldError
from tests.cli.forked import Started, run_warm_command


def write_csv(path: Path, texts: list[str], opened=open) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened(path, "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review"])
        writer.writerows(enumerate(texts))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Six files of several formats and sizes in `texts`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    texts = tmp_path / "texts"
    write_csv(texts / "a.csv", ["a lovely\nfilm", "awful"] * 40)
    write_csv(texts / "deep" / "a.csv", ["passable"] * 7)
    write_csv(texts / "été (1), b.csv.gz", ["awful acting"] * 9, gzip.open)
    (texts / "c.jsonl").write_text('{"review": "lovely", "n": 1}\n' * 20)
    (texts / "d.txt").write_text("an awful film\n\nlovely\n")
    (texts / "empty.txt").write_text("")
    (texts / "notes.md").write_text("not texts")
    return texts


OUTPUTS = {
    *("a.csv.jsonl", "deep/a.csv.jsonl", "été (1), b.csv.gz.jsonl", "c.jsonl.jsonl"),
    *("d.txt.jsonl", "empty.txt.jsonl"),
}


def outputs(folder: Path) -> dict[str, str]:
    """The content of the outputs; no unfinished file and no lock of one is beside them."""
    found = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file() and ".predict" not in path.parts
    }
    assert not [name for name in found if Path(name).name.startswith(".")]
    assert not list(folder.rglob("*.lock"))
    return found


def inodes(folder: Path) -> dict[str, int]:
    """A file that is written once more has another one."""
    return {name: (folder / name).stat().st_ino for name in outputs(folder)}


def rewritten(before: dict[str, int], folder: Path) -> set[str]:
    return {name for name, inode in inodes(folder).items() if before.get(name) != inode}


def test_every_file_of_a_folder_has_the_output_that_it_has_alone(folder, mood_run, capsys):
    predict({"run": str(mood_run), "input": "texts", "output": "out"})
    found = outputs(Path("out"))
    assert set(found) == OUTPUTS
    assert "6 of 6 files labelled" in capsys.readouterr().err
    for name, content in found.items():
        source = folder / name.removesuffix(".jsonl")
        if source.stat().st_size:
            predict({"run": str(mood_run), "input": str(source), "output": "one.jsonl"})
            assert Path("one.jsonl").read_text(encoding="utf-8") == content
        else:
            assert content == ""


def test_shards_divide_the_files_and_nothing_is_labelled_twice(folder, mood_run, capsys):
    options = {"run": str(mood_run), "input": "texts", "output": "out"}
    seen: list[str] = []
    for index in range(3):
        predict({**options, "shard": f"{index}/3"})
        new = set(outputs(Path("out"))) - set(seen)
        assert new
        seen += new
    assert set(seen) == OUTPUTS
    before = inodes(Path("out"))
    for shard in ("0/3", "2/3", "1/2", None):  # also with another number of shards, and none
        predict({**options, "shard": shard})
    assert rewritten(before, Path("out")) == set()
    assert "0 of 6 files labelled, 6 finished before" in capsys.readouterr().err


def test_what_changed_is_labelled_once_more(folder, mood_run):
    run = Path(shutil.copytree(mood_run, "run"))
    options = {"run": str(run), "input": "texts/", "output": "out"}

    def relabelled(**more: object) -> set[str]:
        before = inodes(Path("out"))
        predict(options | more)
        return rewritten(before, Path("out"))

    predict(options)
    assert relabelled(batch_size=2, device="cpu") == set()
    write_csv(folder / "a.csv", ["lovely"])
    assert relabelled() == {"a.csv.jsonl"}
    os.utime(folder / "d.txt", ns=(1, 1))
    (Path("out") / "c.jsonl.jsonl").unlink()
    assert relabelled() == {"d.txt.jsonl", "c.jsonl.jsonl"}
    (Path("out") / "d.txt.jsonl").write_text("")  # damaged
    (Path("out") / ".predict/files/deep/a.csv.jsonl.json").write_text("{")
    assert relabelled() == {"d.txt.jsonl", "deep/a.csv.jsonl"}
    assert relabelled(top_k=1) == OUTPUTS
    assert relabelled(top_k=1) == set()
    best = run / "checkpoints" / "best.ckpt"
    best.unlink()  # so that the last one is used
    assert relabelled(top_k=1) == OUTPUTS


def test_a_bad_file_is_reported_at_the_end_and_labelled_when_it_is_good(folder, mood_run, capsys):
    (folder / "b.csv.gz").write_bytes(gzip.compress(b"id,review\n" + b"1,lovely film\n" * 99)[:50])
    (folder / "e.jsonl").write_text('{"body": 1}\n{"body"\n')
    options = {"run": str(mood_run), "input": "texts", "output": "out"}
    with pytest.raises(UserError) as error:
        predict(options)
    first, *lines = str(error.value).splitlines()
    assert first == "2 of 8 files are not labelled:"
    assert [str(folder / "b.csv.gz") in lines[0], str(folder / "e.jsonl") in lines[1]] == [True] * 2
    assert set(outputs(Path("out"))) >= OUTPUTS
    said = capsys.readouterr().err
    assert said.index("b.csv.gz:") < said.index("d.txt: 2 of 3 texts labelled")

    before = inodes(Path("out"))
    (folder / "b.csv.gz").write_bytes(gzip.compress(b"id,review\n" + b"1,lovely film\n" * 99))
    (folder / "e.jsonl").unlink()
    predict(options)
    assert rewritten(before, Path("out")) == {"b.csv.gz.jsonl"}


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_the_shards_of_one_file_are_its_rows(folder, mood_run, format):
    options = {"run": str(mood_run), "input": "texts/a.csv", "output_format": format}
    for index in range(4):
        predict({**options, "output": "parts", "shard": f"{index}/4"})
    predict({**options, "output": "whole"})
    names = [f"a.csv-0000{index}-of-00004.{format}" for index in range(4)]
    (whole,) = (path for path in Path("whole").iterdir() if path.is_file())
    assert sorted(path.name for path in Path("parts").iterdir() if path.is_file()) == names

    def read(path: Path) -> list[object]:
        if format == "parquet":
            return pq.read_table(path).to_pylist()
        lines = path.read_text(encoding="utf-8").splitlines()
        return lines[1:] if format == "csv" else lines

    assert [row for name in names for row in read(Path("parts") / name)] == read(whole)


def test_another_number_of_shards_of_one_file_is_refused(folder, mood_run):
    options = {"run": str(mood_run), "input": "texts/c.jsonl", "output": "out"}
    predict({**options, "shard": "0/2"})
    for more in ({"shard": "0/3"}, {"output_format": "jsonl"}):
        with pytest.raises(UserError, match="has the rows of another number of shards"):
            predict({**options, **more})
    predict({**options, "shard": "1/2"})
    assert sum(map(len, map(str.splitlines, outputs(Path("out")).values()))) == 20
    shutil.rmtree("out")
    predict({**options, "output_format": "jsonl"})
    with pytest.raises(UserError, match="has all rows already"):
        predict({**options, "shard": "0/2"})


def test_more_shards_than_rows(folder, mood_run):
    for index in range(4):
        options = {"run": str(mood_run), "output": "out", "shard": f"{index}/4"}
        predict({**options, "input": "texts/d.txt"})
        predict({**options, "input": "texts/empty.txt", "output_format": "parquet"})
    found = [json.loads(line) for path in sorted(Path("out").glob("d.*")) for line in path.open()]
    assert [row["line"] for row in found] == [1, 2, 3]
    tables = [pq.read_table(path) for path in Path("out").glob("empty.*")]
    assert [table.num_rows for table in tables] == [0] * 4
    assert "label" in tables[0].column_names


def test_lists_patterns_and_equal_names(folder, mood_run, capsys):
    inputs = ["texts/a.csv", "./texts/a.csv", "texts/deep", "texts/d*/*.csv", "texts/deep/a.csv"]
    predict({"run": str(mood_run), "input": inputs, "output": "out"})
    first, second = sorted(outputs(Path("out")))
    assert first.startswith("a.csv-") and second.startswith("a.csv-")
    assert Counter(len(text.splitlines()) for text in outputs(Path("out")).values()) == {
        80: 1,
        7: 1,
    }
    predict({"run": str(mood_run), "input": "texts/**/*.csv", "output": "tree"})
    assert set(outputs(Path("tree"))) == {"a.csv.jsonl", "deep/a.csv.jsonl"}


def test_what_a_folder_has_beside_texts(folder, mood_run, capsys):
    """A pipe would block, and a name may have any character."""
    os.mkfifo(folder / "pipe.txt")
    (folder / ".hidden.txt").write_text("lovely")
    (folder / "folder.csv").mkdir()
    (folder / "deep" / "circle").symlink_to("..")
    (folder / "gone.csv").symlink_to("nowhere")
    write_csv(folder / "a\n\x1b[1m.csv", ["lovely"])
    with pytest.raises(UserError) as error:
        predict({"run": str(mood_run), "input": "texts", "output": "out"})
    first, second = str(error.value).splitlines()
    assert first == "1 of 8 files are not labelled:"
    assert second.endswith("gone.csv: cannot be read: No such file or directory")
    assert set(outputs(Path("out"))) == OUTPUTS | {"a\n\x1b[1m.csv.jsonl"}
    assert "\x1b" not in capsys.readouterr().err


def test_an_output_folder_in_the_input_is_not_labelled(folder, mood_run, capsys):
    options = {"run": str(mood_run), "output": "texts/out"}
    for source in ("texts", "texts/../texts", "texts/**/*.jsonl"):
        predict({**options, "input": source})
    assert set(outputs(folder / "out")) == OUTPUTS
    Path("link").symlink_to("texts")
    predict({**options, "input": "link"})
    assert set(outputs(folder / "out")) == OUTPUTS


def test_a_changed_input_is_reported_to_the_other_shards(folder, mood_run, capsys):
    options = {"run": str(mood_run), "input": "texts", "output": "out"}
    predict({**options, "shard": "0/2"})
    write_csv(folder / "late.csv", ["lovely"] * 2000)
    assert "warning" not in capsys.readouterr().err
    predict({**options, "shard": "1/2"})
    warning = "warning: the input has changed since shard 0/2 started: run those again"
    assert warning in capsys.readouterr().err
    for index in range(2):
        predict({**options, "shard": f"{index}/2"})
    assert set(outputs(Path("out"))) == OUTPUTS | {"late.csv.jsonl"}


def test_one_large_file_among_others_is_pointed_out(folder, mood_run, capsys):
    write_csv(folder / "large.csv", ["lovely"] * 9000)
    options = {"run": str(mood_run), "input": "texts", "output": "out"}
    predict({**options, "shard": "0/4"})
    assert "large.csv has 9" in capsys.readouterr().err


MISTAKES = [
    ({"shard": "4/4"}, "shard=4/4: shards are numbered from 0. Choose from: 0/4 to 3/4"),
    ({"shard": "0/100001"}, "shard=0/100001: there are at most 100,000 shards"),
    ({"input": "/dev/zero", "shard": "0/2"}, "input=/dev/zero: not a regular file"),
    ({"shard": "1"}, "shard=1: give shard=<index>/<count>"),
    ({"input": "-", "shard": "0/2"}, "shard=0/2: needs input="),
    ({"output": "-"}, "output=-: is stdout; several files, and shards, need a folder"),
    ({"output": "texts/a.csv"}, "output=texts/a.csv: is a file"),
    ({"output": "out.csv"}, "output=out.csv: is a file; several files, and shards, need a folder"),
    ({"output": "texts"}, "is the input folder"),
    ({"input": "none/*.csv"}, "input=none/*.csv: matches no file"),
    ({"input": ["texts/a.csv", "gone.csv"]}, "input=gone.csv: no such file or folder"),
    ({"input": "none", "shard": "0/2"}, "input=none: no such file or folder"),
    ({"input": []}, "no files to label"),
    ({"num_workers": 2}, "num_workers=2: only engine=ray has workers"),
    ({"engine": "ray", "shard": "0/2"}, "shard=0/2: engine=ray divides the input itself"),
    ({"output_format": "xlsx"}, "output_format=xlsx: impossible value. Choose from: jsonl, csv,"),
    ({"run": "nowhere"}, "nowhere: no such run folder, .ckpt, .safetensors or .onnx file"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_a_mistake_is_one_line_and_nothing_is_written(folder, mood_run, options, message):
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(UserError) as error:
        predict({"run": str(mood_run), "input": "texts", "output": "out"} | options)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert sorted(folder.parent.rglob("*")) == before


def test_a_file_of_another_kind_is_not_replaced(folder, mood_run):
    Path("out").mkdir()
    Path("out/d.txt.jsonl").write_text('{"my": "notes"}\n')
    options = {"run": str(mood_run), "input": "texts", "output": "out"}
    with pytest.raises(UserError, match="exists and is not a file of predictions"):
        predict(options)
    assert Path("out/d.txt.jsonl").read_text() == '{"my": "notes"}\n'
    predict({**options, "overwrite": True})
    assert set(outputs(Path("out"))) == OUTPUTS


def test_an_onnx_file_labels_shards(folder, mood_run):
    export([f"run={mood_run}", "output=model.onnx"])
    for index in range(2):
        shard = {"shard": f"{index}/2", "input": "texts", "output": "out"}
        predict({"run": "model.onnx", **shard})
        predict({"run": str(mood_run), **shard, "output": "torch"})
    ours, theirs = outputs(Path("out")), outputs(Path("torch"))
    assert set(ours) == set(theirs) == OUTPUTS
    for name in OUTPUTS:
        mine, other = (
            [json.loads(line).get("label") for line in found[name].splitlines()]
            for found in (ours, theirs)
        )
        assert mine == other


def test_a_sweep_labels_all_shards_and_lists_what_is_missing(folder, mood_run):
    (folder / "bad.csv.gz").write_bytes(b"no gzip")
    command = ("predict.py", "-m", f"run={mood_run}", "input=texts", "output=out", "shard=0/2,1/2")
    done = run_warm_command(*command, cwd=folder.parent)
    assert done.returncode == 1
    *_, count, first, second = done.stderr.splitlines()
    assert count == "6 of 7 files are labelled"
    assert first == "error: 1 of 7 files are not labelled:"
    assert second.startswith(f"error:   {folder / 'bad.csv.gz'}:1: cannot be read:")
    assert set(outputs(Path("out"))) == OUTPUTS
    (folder / "bad.csv.gz").unlink()
    done = run_warm_command(*command, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "6 of 6 files are labelled"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("shard=0/2", "top_k=1,2"), "top_k=1,2: predict has one value of each option but shard"),
        (("top_k=1",), "shard: give the shards of the sweep"),
        (("shard=0/2,2/2",), "shard=2/2: shards are numbered from 0"),
    ],
)
def test_a_sweep_over_anything_else_is_refused(folder, mood_run, arguments, message):
    options = ("-m", f"run={mood_run}", "input=texts", "output=out", *arguments)
    done = run_warm_command("predict.py", *options, cwd=folder.parent)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_killed_shard_continues_and_is_locked_while_it_runs(folder, mood_run):
    write_csv(folder / "large.csv", ["lovely film"] * 30_000)
    options = {"run": str(mood_run), "input": ["texts/a.csv", "texts/large.csv"], "output": "out"}
    command = ("predict.py", f"run={mood_run}", "input=[texts/a.csv,texts/large.csv]")
    process = Started(
        *command, "output=out", "shard=0/1", cwd=folder.parent, out=folder.parent / "said"
    )
    until = time.monotonic() + 200
    while not any(path.stat().st_size for path in Path("out").glob(".large.csv.*.partial")):
        assert time.monotonic() < until and process.poll() is None, process.printed()
        time.sleep(0.02)
    with pytest.raises(LockHeldError, match=r"^shard=0/1: locked by process \d+ on "):
        predict({**options, "shard": "0/1"})
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("out/large.csv.jsonl").exists()
    before = Path("out/a.csv.jsonl").stat().st_ino
    predict({**options, "shard": "0/1"})
    assert set(outputs(Path("out"))) == {"a.csv.jsonl", "large.csv.jsonl"}
    assert Path("out/a.csv.jsonl").stat().st_ino == before
    lines = [
        json.loads(line)["line"] for line in Path("out/large.csv.jsonl").read_text().splitlines()
    ]
    assert lines == list(range(2, 30_002))
