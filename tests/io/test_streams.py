"""What is printed ends no run."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rnn_lab.errors import WriteError
from rnn_lab.io.streams import fault_tolerant_streams, printing_results
from tests.cli.forked import Started
from tests.cli.runner import PROJECT

TEXT = "好评 ½ \udcff\n"  # the last one is a byte of a file's name that is no UTF-8


def stream_of(descriptor: int, encoding: str = "utf-8", **options) -> io.TextIOWrapper:
    return io.TextIOWrapper(open(descriptor, "wb"), encoding=encoding, **options)


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", "\\u597d\\u8bc4 \\xbd \\udcff\n"),
        ("latin-1", "\\u597d\\u8bc4 ½ \\udcff\n"),
        ("gbk", "好评 \\xbd \\udcff\n"),
        ("utf-8", "好评 ½ \\udcff\n"),
    ],
)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_what_the_encoding_lacks_is_escaped(monkeypatch, tmp_path, name, encoding, written):
    stream = stream_of(os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY), encoding)
    monkeypatch.setattr(sys, name, stream)
    with fault_tolerant_streams(), fault_tolerant_streams():  # a job inside a command
        print(TEXT, end="", file=getattr(sys, name))
    assert getattr(sys, name) is stream
    assert (tmp_path / "out").read_bytes().decode(encoding) == written


def closed_pipe() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def closed_terminal() -> int:
    controller, terminal = os.openpty()
    os.close(controller)
    return terminal


@pytest.mark.parametrize(
    ("descriptor", "reason"),
    [
        (closed_pipe, "Broken pipe"),
        (closed_terminal, "Input/output error"),
        (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device"),
        (lambda: os.open(os.devnull, os.O_RDONLY), "Bad file descriptor"),
    ],
)
@pytest.mark.parametrize("buffered", [True, False])
def test_an_error_of_stdout_is_reported_once(monkeypatch, capsys, descriptor, reason, buffered):
    raw = os.fdopen(descriptor(), "wb", buffering=0)
    binary = io.BufferedWriter(raw) if buffered else raw
    stream = io.TextIOWrapper(binary, encoding="ascii", write_through=not buffered)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with fault_tolerant_streams():
            for _ in range(3):
                print(TEXT, flush=True)
            print(TEXT * 9999)
    assert capsys.readouterr().err == f"standard output: {reason}; continues without it\n"
    stream.close()  # as Python does at its end: nothing is left to be written


def test_an_error_of_stderr_is_silent(monkeypatch):
    stream = stream_of(os.open("/dev/full", os.O_WRONLY))
    monkeypatch.setattr(sys, "stderr", stream)
    with fault_tolerant_streams():
        print(TEXT, file=sys.stderr, flush=True)


def test_a_full_pipe_that_does_not_block_is_waited_for(monkeypatch):
    read, write = os.pipe()
    os.set_blocking(write, False)
    monkeypatch.setattr(sys, "stdout", stream_of(write))
    chunks: list[bytes] = []

    def drain() -> None:
        while chunk := os.read(read, 2**16):
            chunks.append(chunk)

    reader = threading.Thread(target=drain)
    threading.Timer(0.05, reader.start).start()
    with fault_tolerant_streams():
        print("x" * 2**18)
    sys.stdout.close()
    while not chunks:
        pass
    reader.join()
    os.close(read)
    assert b"".join(chunks) == b"x" * 2**18 + b"\n"


def test_a_stream_of_no_descriptor_is_left_alone(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with fault_tolerant_streams():
        print(TEXT, end="")
    assert stream.getvalue() == TEXT


CLOSED = """
import os, sys
from rnn_lab.io.streams import fault_tolerant_streams
with fault_tolerant_streams():
    print("lost"); print("lost", file=sys.stderr)
    opened = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
    os.system("echo of a program that is started")
os.write(opened, str(opened > 2).encode())
"""


def test_closed_descriptors_are_no_file_that_is_opened_later(tmp_path):
    command = '"$0" -c "$1" "$2" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, CLOSED, str(tmp_path / "file")], cwd=PROJECT
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "True"


def test_a_result_that_cannot_be_printed_is_an_error(monkeypatch):
    stream = stream_of(os.open("/dev/full", os.O_WRONLY), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with (
        pytest.raises(WriteError, match=r"^standard output: cannot be written: No space left"),
        fault_tolerant_streams(prints_result=True),
        printing_results(),
    ):
        print(TEXT)
    stream.close()
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(WriteError, match="is closed"), printing_results():
        print(TEXT)


def test_a_reader_that_has_closed_the_pipe_ends_a_program_that_prints_its_result(monkeypatch):
    stream = stream_of(closed_pipe())
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as ended, printing_results():
        print(TEXT.replace("\udcff", ""))
    assert ended.value.code == 0
    stream.close()


def test_a_run_trains_to_its_end_without_standard_output(tmp_path):
    texts = [f"{'好' if i % 2 else '差'} film {i},{'好评' if i % 2 else '差评'}" for i in range(60)]
    Path(tmp_path / "texts.csv").write_text("\n".join(["text,label", *texts]), encoding="utf-8")
    line = ("data=files", "data.train_path=texts.csv", "model=rnn", "trainer.max_epochs=1")
    err = tmp_path / "err"
    run = Started(
        *("train.py", *line, "hydra.run.dir=run", "plots=false", "logger=none", "baseline=none"),
        cwd=tmp_path,
        env={"PYTHONIOENCODING": "ascii"},
        out=Path("/dev/full"),
        err=err,
    )
    assert run.wait() == 0, err.read_text()
    message = "standard output: No space left on device; continues without it\n"
    assert message in err.read_text()
    assert (tmp_path / "run" / "result.json").exists()
