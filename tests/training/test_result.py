import json
import math
import re
import subprocess
import sys

from src.training.result import git_commit, versions, write_result
from tests.doors.runner import PROJECT


def test_a_figure_that_cannot_be_had_is_null(tmp_path):
    write_result(tmp_path, {"val/auroc": math.nan, "test/accuracy": 0.5, "tags": ["größe"]})
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    # Strict JSON: no reader but Python's takes NaN.
    result = json.loads(text, parse_constant=lambda name: 1 / 0)
    assert result == {"val/auroc": None, "test/accuracy": 0.5, "tags": ["größe"]}


def test_versions_and_commit():
    assert {"python", "torch", "lightning", "hydra-core", "numpy"} <= versions().keys()
    commit = git_commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)


def test_peak_memory_is_in_bytes():
    """In a process of its own: what was the peak of this one, is no longer to be seen."""
    program = """
from src.training.result import peak_memory_bytes
before = peak_memory_bytes()
block = bytearray(300_000_000)
print(before, peak_memory_bytes())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert 50e6 < before < 100e9
    assert after - before > 200e6
