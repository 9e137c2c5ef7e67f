"""predict.py, opened as a user opens it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rnn_lab.cli import HydraCommand
from rnn_lab.inference.batch_predict import classify
from rnn_lab.inference.load import load_model
from tests.cli.forked import Started, run_warm_command
from tests.cli.runner import PROJECT, command_environment

PLAIN = 'It\'s not bad, is it? ${x} (50% off)! [a, b] {c: d} = \\e "f" #g ~h lovely'


# predict.py as it is run, and then which of the modules that take a second to load it has loaded.
LOADED = """
import runpy, sys
sys.argv[0] = sys.argv.pop(1)
runpy.run_path(sys.argv[0], run_name="__main__")
print("loaded:", *{"numba", "lightning"} & {*sys.modules})
"""


def test_a_text_arrives_to_the_letter_and_waits_for_no_compiler(tmp_path, mood_run):
    program = (sys.executable, "-c", LOADED, str(PROJECT / "predict.py"))
    done = subprocess.run(
        [*program, f"run={mood_run}", f"text={PLAIN}"],
        cwd=tmp_path,
        env=command_environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    run = load_model(str(mood_run))
    (probabilities,) = classify(run, [run.text_encoder.encode(PLAIN)], 1)
    label, *rows, loaded = done.stdout.splitlines()
    assert label == run.class_names[probabilities.argmax()]
    for name, probability in zip(run.class_names, probabilities, strict=True):
        assert f"  {name:5}  {100 * probability:5.1f} %" in rows
    assert loaded.split() == ["loaded:"]
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=5, deadline=None)
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
@example(PLAIN)
@example("text=run=5")
@example("--help")
@example("null")
@example("'unbalanced\n${oc.env:HOME}")
def test_any_text_arrives_to_the_letter(text):
    arrived, environment = [], dict(os.environ)
    argv, sys.argv = sys.argv, ["predict.py", "run=somewhere", f"text={text}", "batch_size=7"]
    try:
        HydraCommand(arrived.append, "predict", raw_args=("text",)).main()
    finally:
        sys.argv = argv
    assert dict(os.environ) == environment  # of the processes that are started next
    (options,) = arrived
    assert options["text"] == text
    assert options["run"] == "somewhere"
    assert options["batch_size"] == 7


def test_stdin_to_stdout(tmp_path, mood_run):
    (tmp_path / "texts").write_text("an awful film\n\nlovely — très\n", encoding="utf-8")
    done = run_warm_command(
        *("predict.py", f"run={mood_run}", "input=-"), cwd=tmp_path, stdin=tmp_path / "texts"
    )
    assert done.returncode == 0
    first, second, third = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["line"], first["label"]) == (1, "bad")
    assert second == {"line": 2, "error": "empty text"}
    assert (third["line"], third["label"]) == (3, "good")
    assert done.stderr.splitlines() == ["-:2: empty text", "2 of 3 texts labelled"]


def test_a_reader_that_has_enough_is_no_error(tmp_path, mood_run):
    """The answers must not fit into the pipe's 64 KiB, or nobody would notice."""
    source = tmp_path / "many, many.txt"
    source.write_text("a lovely film\n" * 2000)
    os.mkfifo(tmp_path / "pipe")
    streams = {"out": tmp_path / "pipe", "err": tmp_path / "err"}
    process = Started("predict.py", f"run={mood_run}", f"input={source}", cwd=tmp_path, **streams)
    with (tmp_path / "pipe").open("rb") as pipe:
        first = pipe.readline()
    assert (process.wait(), (tmp_path / "err").read_text()) == (0, "")
    assert json.loads(first)["label"] == "good"


def test_invalid_text_is_reported(tmp_path, mood_run):
    given = b"caf\xe9 lovely".decode("utf-8", "surrogateescape")  # as the shell passes it on
    done = run_warm_command("predict.py", f"run={mood_run}", f"text={given}", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: text: is not utf-8: byte 0xe9\n"


MEASURED = """
import runpy, sys
sys.argv[0] = "predict.py"
runpy.run_path(sys.argv.pop(1), run_name="__main__")
from rnn_lab.process import peak_memory_bytes
print(peak_memory_bytes() // 2**20)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input(tmp_path, mood_run):
    """Many short lines, and many of a megabyte, beside a few of them."""
    inputs = {
        "few": b"a lovely film\n" * 5_000 + b"lovely " * 150_000,
        "many": b"a lovely film\n" * 30_000,
        "long": b"a lovely film\n" * 10 + (b"lovely " * 150_000 + b"\n") * 80,
    }
    peaks = {}
    for name, content in inputs.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
        command = [sys.executable, "-c", MEASURED, str(PROJECT / "predict.py"), f"run={mood_run}"]
        options = [f"input={name}.txt", f"output={name}.jsonl", "device=cpu"]
        done = subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env=os.environ,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        peaks[name] = int(done.stdout)
        answers = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        lines = content.count(b"\n") + (not content.endswith(b"\n"))
        assert [json.loads(answer)["line"] for answer in answers] == list(range(1, lines + 1))
        assert all(json.loads(answer)["label"] == "good" for answer in answers)
    assert peaks["many"] - peaks["few"] < 50, peaks  # MiB
    assert peaks["long"] - peaks["few"] < 100, peaks


@pytest.mark.slow
def test_killed_half_way_it_leaves_the_output_as_it_was(tmp_path, mood_run):
    output = tmp_path / "out.jsonl"
    output.write_text("earlier\n")
    os.mkfifo(tmp_path / "pipe")
    command = ("predict.py", f"run={mood_run}", "input=-", "output=out.jsonl", "overwrite=true")
    streams = {"out": tmp_path / "said", "stdin": tmp_path / "pipe"}
    process = Started(*command, cwd=tmp_path, **streams)
    with (tmp_path / "pipe").open("wb") as texts:
        texts.write(b"a lovely film\n" * 20_000)
        texts.flush()
        deadline = time.monotonic() + 250
        while not any(part.stat().st_size for part in tmp_path.glob(".out.jsonl.*.partial")):
            assert time.monotonic() < deadline, "no answer has been written"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert output.read_text() == "earlier\n"


def test_a_full_disk_behind_stdout_is_one_line(tmp_path, mood_run):
    (tmp_path / "texts").write_text("lovely\n")
    streams = {"out": Path("/dev/full"), "err": tmp_path / "err", "stdin": tmp_path / "texts"}
    process = Started("predict.py", f"run={mood_run}", "input=-", cwd=tmp_path, **streams)
    assert process.wait() == 1
    assert (tmp_path / "err").read_text().splitlines() == [
        "error: standard output: cannot be written: No space left on device; free some space there"
    ]


def test_a_mistake_is_one_line(tmp_path, mood_run):
    for arguments, said in [
        (("text=x",), "run=<path>"),
        ((f"run={mood_run}", "text=x", "batchsize=3"), "Did you mean batch_size?"),
        ((f"run={tmp_path}", "text=x"), "looked for"),
    ]:
        done = run_warm_command("predict.py", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_help_names_every_kind_of_input(tmp_path):
    done = run_warm_command("predict.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for name in ("text=", "input=reviews.txt", "reviews.csv", "reviews.jsonl", "input=-"):
        assert name in done.stdout
