"""What is printed about long work where there is no terminal."""

import math
import time

import pytest

from rnn_lab.data.progress import ProgressLines, progress_bar


@pytest.mark.parametrize(
    ("total", "expected"),
    [(8, ["12%", "50%", "100%"]), (None, ["1", "4", "8"]), (math.inf, ["1", "4", "8"])],
)
def test_lines_come_at_longer_and_longer_intervals(capsys, total, expected):
    lines = ProgressLines("Reading", total, first_wait=0.1)  # at 0.1, 0.3 and 0.7 seconds
    for done, wait in enumerate((0.15, 0, 0, 0.2, 0, 0, 0, 0.45), 1):
        time.sleep(wait)
        lines.update(done)
    assert capsys.readouterr().err.splitlines() == [
        f"Reading: {share} after 0 min" for share in expected
    ]


def test_short_work_prints_nothing(capsys):
    with progress_bar("Reading", 3) as advance:
        for _ in range(3):
            advance(1)
    assert capsys.readouterr() == ("", "")


def test_what_was_done_before_counts(capsys):
    lines = ProgressLines("Downloading", 4000, done=1000, first_wait=0)
    lines.advance(1000)
    assert capsys.readouterr().err == "Downloading: 50% after 0 min\n"
