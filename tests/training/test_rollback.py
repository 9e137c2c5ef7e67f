"""The record of a run's rollbacks."""

import os
from pathlib import Path

import pytest

from rnn_lab.training.rollback import ROLLBACKS, Rollback, read_rollbacks, write_rollbacks


def test_written_rollbacks_are_read(tmp_path: Path) -> None:
    rollbacks = (Rollback(3, 1, (0, 2), 2, "in \udc80"), Rollback(5, 1, (), 0, "the gradient"))
    write_rollbacks(tmp_path, rollbacks)
    assert read_rollbacks(tmp_path) == rollbacks


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"rollbacks": 1}',
        '{"rollbacks": [{"step": 1}]}',
        '{"rollbacks": [{"step": 1, "epoch": [], "batches": [1], "to_step": 0, "why": ""}]}',
        '{"rollbacks": [{"step": 1, "epoch": 1, "batches": 1, "to_step": 0, "why": ""}]}',
    ],
)
def test_damaged_record_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / ROLLBACKS).write_text(content)
    assert read_rollbacks(tmp_path) == ()
    line = f"{tmp_path / ROLLBACKS}: damaged; the run continues without its rollbacks\n"
    assert capsys.readouterr().err == line


def test_pipe_in_place_of_the_record_does_not_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / ROLLBACKS)
    assert read_rollbacks(tmp_path) == ()
    assert "damaged" in capsys.readouterr().err


def test_run_without_a_record_has_no_rollbacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_rollbacks(tmp_path) == ()
    assert capsys.readouterr().err == ""
