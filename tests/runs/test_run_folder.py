from pathlib import Path

import pytest

from rnn_lab.runs.run_folder import run_folder


@pytest.mark.parametrize("parent", ["runs", "checkpoints"])
def test_a_run_folder_is_found_from_the_files_in_it(tmp_path: Path, parent: str) -> None:
    run = tmp_path / parent / "gru"
    (run / "checkpoints").mkdir(parents=True)
    for path in (run, run / "result.json", run / "checkpoints" / "last.ckpt"):
        assert run_folder(path) == run
    assert run_folder(run / "model.safetensors") is None


@pytest.mark.parametrize("name", ["best.ckpt", "../checkpoints/best.ckpt", "logs/../best.ckpt"])
def test_a_run_folder_is_found_from_within_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "gru" / "checkpoints" / "logs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "gru" / "checkpoints")
    folder = run_folder(Path(name))
    assert folder is not None and folder.samefile(tmp_path / "gru")
    monkeypatch.chdir(tmp_path)
    assert run_folder(Path("best.ckpt")) is None
