"""Untrusted files: each is refused in one line, runs nothing, and takes no memory."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from rnn_lab.errors import CheckpointError
from rnn_lab.inference.load import load_model
from rnn_lab.io.safe_load import UnsafeCheckpointError, safe_load
from rnn_lab.models.lightning_module import TextClassifier
from tests.cli.forked import run_warm_command
from tests.cli.runner import PROJECT
from tests.inference.untrained import untrained_run


class Attack:
    """A pickle of this runs a shell command where it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def archive(
    path: Path, pickled: bytes, *, compression: int = zipfile.ZIP_STORED, **members: bytes
) -> None:
    """An archive as torch.save's, with any pickle and more members."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", b"3\n")
        file.writestr("archive/byteorder", b"little")
        for name, content in members.items():
            file.writestr(f"archive/data/{name}", content)


def evil_data_pkl(path: Path, marker: Path) -> None:
    archive(path, pickle.dumps(Attack(marker), protocol=2))


def newer_protocol(path: Path, marker: Path) -> None:
    archive(path, pickle.dumps(Attack(marker), protocol=5))


def by_obj(path: Path, marker: Path) -> None:
    """`os.system` by the opcode INST, which takes no GLOBAL."""
    archive(path, f"(Vtouch {marker}\nios\nsystem\n.".encode())


def allowed_by_torch(path: Path, marker: Path) -> None:
    """torch lets this through: counting a billion zeros takes minutes."""
    archive(
        path, b"\x80\x02ccollections\nCounter\nc__builtin__\nbytearray\nJ\x00\xca\x9a;\x85R\x85R."
    )


def hidden_in_a_list(path: Path, marker: Path) -> None:
    torch.save({"state_dict": [[{"a": Attack(marker)}]]}, path)


def class_of_ours(path: Path, marker: Path) -> None:
    torch.save(untrained_run().model, path)


def module_of_ours(path: Path, marker: Path) -> None:
    torch.save({"module": TextClassifier}, path)


def scripted(path: Path, marker: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


CODE = (
    *(evil_data_pkl, newer_protocol, by_obj, allowed_by_torch, hidden_in_a_list),
    *(class_of_ours, module_of_ours),
)


@pytest.mark.parametrize("attack", CODE, ids=lambda attack: attack.__name__)
def test_code_is_named_and_not_run(tmp_path, attack):
    marker, path = tmp_path / "marker", tmp_path / "attack.ckpt"
    attack(path, marker)
    refusal = r"^refused: (it would run|contains) [\w.]+; .*$"
    with pytest.raises(UnsafeCheckpointError, match=refusal):
        safe_load(path)
    assert not marker.exists()


def plain_pickle(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Attack(marker)))


def legacy(path: Path, marker: Path) -> None:
    torch.save(Attack(marker), path, _use_new_zipfile_serialization=False)


def empty(path: Path, marker: Path) -> None:
    path.touch()


def folder(path: Path, marker: Path) -> None:
    path.mkdir()


def pipe(path: Path, marker: Path) -> None:
    os.mkfifo(path)


def endless(path: Path, marker: Path) -> None:
    path.symlink_to("/dev/zero")


def circle(path: Path, marker: Path) -> None:
    path.symlink_to(path)


def nested_zip(path: Path, marker: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(10**8))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl.zip", inner.getvalue())


def compressed(path: Path, marker: Path) -> None:
    archive(path, b"\x80\x02N.", compression=zipfile.ZIP_DEFLATED, zeros=bytes(2 * 10**8))


def overlapping(path: Path, marker: Path) -> None:
    """A thousand names of the same ten million bytes."""
    archive(path, b"\x80\x02N.", zeros=bytes(10**7))
    with zipfile.ZipFile(path, "a") as file:
        for number in range(1000):
            again = zipfile.ZipInfo(f"archive/data/{number}")
            known = file.getinfo("archive/data/zeros")
            again.header_offset, again.CRC = known.header_offset, known.CRC
            again.file_size = again.compress_size = known.file_size
            file.filelist.append(again)
        file._didModify = True


def twice_the_same_name(path: Path, marker: Path) -> None:
    archive(path, b"\x80\x02N.")
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("archive/data.pkl", b"\x80\x02K\x01.")


def huge_storage(path: Path, marker: Path) -> None:
    """A tensor of 4 TB, of whose storage there are four bytes."""
    content = io.BytesIO()
    torch.save({"w": torch.zeros(1)}, content)
    with zipfile.ZipFile(content) as file:
        pickled = file.read("archive/data.pkl")
    assert pickled.count(b"K\x01") >= 3
    archive(path, pickled.replace(b"K\x01", b"\x8a\x06\x00\x00\x00\x00\x00\x01"), **{"0": bytes(4)})


def stretched(path: Path, marker: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(10**12)}, path)


def memo_bomb(path: Path, marker: Path) -> None:
    """A place in the memo that a reader might make room for, up to it."""
    archive(path, b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".")


def huge_string(path: Path, marker: Path) -> None:
    archive(path, b"\x80\x02X" + struct.pack("<I", 2**31 - 1) + b"a.")


def deeply_nested(path: Path, marker: Path) -> None:
    archive(path, b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")


def holds_itself(path: Path, marker: Path) -> None:
    archive(path, b"\x80\x02]q\x00h\x00a.")


BROKEN = (
    *(plain_pickle, legacy, empty, folder, pipe, endless, circle, nested_zip, compressed, scripted),
    *(overlapping, twice_the_same_name, huge_storage, stretched, memo_bomb, huge_string),
    *(deeply_nested, holds_itself),
)

MEASURE = """
import json, resource, sys
from rnn_lab.errors import CheckpointError
from rnn_lab.inference.load import load_model
from rnn_lab.training.checkpoint_io import read_checkpoint
from rnn_lab.process import peak_memory_bytes
from pathlib import Path
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
def peak():
    return peak_memory_bytes() // 2**20
def refusal(read, path):
    before = peak()
    try:
        read(path)
    except CheckpointError as error:
        return [str(error), peak() - before]
for path in sys.argv[1:]:
    found = [refusal(load_model, path), refusal(read_checkpoint, Path(path))]
    print(json.dumps([path, *found]), flush=True)
"""


@pytest.mark.slow
def test_what_is_no_checkpoint_is_refused_in_a_line_and_in_little_memory(tmp_path):
    """Wherever one is read: as a finished run, and as an unfinished one."""
    for attack in (*CODE, *BROKEN):
        attack(tmp_path / f"{attack.__name__}.ckpt", tmp_path / "marker")
    paths = sorted(map(str, tmp_path.glob("*.ckpt")))
    assert len(paths) == len(CODE) + len(BROKEN)
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert measured.returncode == 0, measured.stdout + measured.stderr
    found = [json.loads(line) for line in measured.stdout.splitlines()]
    assert [path for path, *_ in found] == paths
    for path, *refusals in found:
        for said, megabytes in refusals:
            assert said and len(said.splitlines()) == 1, path
            assert megabytes < 100, path
        assert path in refusals[0][0]
    assert not (tmp_path / "marker").exists()


def test_text_of_a_file_does_not_reach_the_terminal_as_control_characters(tmp_path, mood_run):
    state = torch.load(mood_run / "checkpoints" / "best.ckpt", weights_only=True)
    state["hyper_parameters"]["evil\n\x1b[2Jerror: all is well"] = 1
    torch.save(state, tmp_path / "control.ckpt")
    with pytest.raises(CheckpointError) as refused:
        load_model(str(tmp_path / "control.ckpt"))
    assert str(refused.value).isprintable() and "evil\\n" in str(refused.value)


@pytest.mark.parametrize("script", ["predict.py", "explain.py"])
def test_a_command_refuses_in_one_line(tmp_path, script):
    evil_data_pkl(tmp_path / "attack.ckpt", tmp_path / "marker")
    done = run_warm_command(script, f"run={tmp_path}/attack.ckpt", "text=good", cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line == (
        f"error: {tmp_path}/attack.ckpt: refused: it would run posix.system; "
        "checkpoints contain plain data only"
    )
    assert not (tmp_path / "marker").exists()
