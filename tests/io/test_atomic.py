import contextlib
import logging
from pathlib import Path

import pytest
import torch

from rnn_lab.errors import UserError, WriteError
from rnn_lab.io.atomic import atomic_write, translating_os_errors
from rnn_lab.log_handler import FaultTolerantFileHandler


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as file:
        file.write("first")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write("second")
        1 / 0  # noqa: B018
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    """Whoever made the folder would say which of the user's files a run replaces."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(target)
    with atomic_write(link) as file:
        file.write("new")
    assert not link.is_symlink() and link.read_text() == "new"
    assert target.read_text() == "mine"


def test_a_device_is_written_to_and_not_replaced():
    with atomic_write(Path("/dev/null")) as file:
        file.write("anything")
    assert Path("/dev/null").is_char_device()


def test_half_a_character_is_written_as_json_reads_it(tmp_path):
    with atomic_write(tmp_path / "file") as file:
        file.write('"\udc80 ü"')
    assert (tmp_path / "file").read_bytes() == b'"\\udc80 \xc3\xbc"'


@pytest.mark.parametrize("name", ["file/below", "x" * 300])
def test_says_why_it_cannot_be_written(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), atomic_write(tmp_path / name):
        pass


def test_a_full_disk_is_named_with_what_to_do():
    said = "^/dev/full: cannot be written: No space left on device; free some space there$"
    with pytest.raises(WriteError, match=said), atomic_write(Path("/dev/full")) as file:
        file.write("anything")


def test_error_of_a_library_on_a_full_disk_is_reported_as_a_full_disk(tmp_path):
    """torch, with an error of its own."""
    full = Path("/dev/full").open("wb")  # noqa: SIM115
    with pytest.raises(WriteError, match="No space left"), translating_os_errors(tmp_path / "file"):
        torch.save(torch.zeros(1000), full)
    with contextlib.suppress(OSError):
        full.close()
    with pytest.raises(RuntimeError, match="ours"), translating_os_errors(tmp_path / "file"):
        raise RuntimeError("a fault of ours")


def test_log_on_a_full_disk_is_reported_once(capfd):
    log = logging.Logger("full")
    log.addHandler(FaultTolerantFileHandler("/dev/full"))
    for _ in range(3):
        log.info("a line")
    log.handlers[0].close()
    said = capfd.readouterr().err.splitlines()
    assert said == [
        "/dev/full: this log cannot be written: No space left on device; free some space there; "
        "the run continues without it"
    ]


def test_a_log_that_is_a_link_is_not_followed(tmp_path, capfd):
    """Whoever made the folder would say which of the user's files a run writes to."""
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "train.log").symlink_to("mine")
    log = logging.Logger("linked")
    log.addHandler(FaultTolerantFileHandler(str(tmp_path / "train.log")))
    log.info("a line")
    log.handlers[0].close()
    assert (tmp_path / "mine").read_text() == "kept"
    assert "train.log: this log cannot be written: " in capfd.readouterr().err
