import json
import math
import re

from rnn_lab.training.artifacts import git_commit, versions, write_result


def test_nan_metric_is_null(tmp_path):
    write_result(tmp_path, {"val/auroc": math.nan, "test/accuracy": 0.5, "tags": ["größe"]})
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    # Strict JSON: only Python's reader accepts NaN.
    result = json.loads(text, parse_constant=lambda name: 1 / 0)
    assert result == {
        **{"schema_version": 3, "val/auroc": None, "test/accuracy": 0.5},
        "tags": ["größe"],
    }


def test_versions_and_commit():
    assert {"python", "torch", "lightning", "hydra-core", "numpy"} <= versions().keys()
    commit = git_commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)
