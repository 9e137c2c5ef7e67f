from pathlib import Path

import pytest

from rnn_lab.io.run_file import run_folder


@pytest.mark.parametrize("parent", ["runs", "checkpoints"])
def test_a_run_folder_is_found_from_the_files_in_it(tmp_path: Path, parent: str) -> None:
    run = tmp_path / parent / "gru"
    (run / "checkpoints").mkdir(parents=True)
    for path in (run, run / "result.json", run / "checkpoints" / "last.ckpt"):
        assert run_folder(path) == run
    assert run_folder(run / "model.safetensors") is None
