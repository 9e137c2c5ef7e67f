import logging

import pytest

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.training.data_warnings import log_duplicates


def logged(tmp_path, caplog, test: list[str]) -> logging.LogRecord:
    """Return what is logged of 400 training texts, of which validation has 40, and `test`."""
    for name, texts in {"train": [f"text {i}" for i in range(400)], "test": test}.items():
        rows = [f"{text},{i % 2}" for i, text in enumerate(texts)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    paths = {f"{name}_path": str(tmp_path / f"{name}.csv") for name in ("train", "test")}
    data = TextDataModule(FilesConfig(cache_dir=str(tmp_path / "cache"), **paths))
    data.setup()
    with caplog.at_level(logging.INFO):
        log_duplicates(data)
    (record,) = caplog.records
    return record


def test_few_duplicates_are_logged_at_info(tmp_path, caplog):
    record = logged(tmp_path, caplog, [f"other {i}" for i in range(10)])
    assert record.levelno == logging.INFO
    assert "0 within training" in record.getMessage()
    assert "0 of 40 validation examples" in record.getMessage()


@pytest.mark.parametrize("shift", [0, 1], ids=["same label", "other label"])
def test_many_duplicates_are_a_warning(tmp_path, caplog, shift):
    leaks = [f"Text {i + shift}" for i in range(200)]
    record = logged(tmp_path, caplog, [*leaks, *leaks[:2]])
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    words, exact = message.partition(" of 202 test examples (")[::2]
    assert 150 <= int(words.rpartition(" ")[2]) <= 202
    assert exact.startswith("0 exactly)")
    conflicts = int(message.partition("; ")[2].partition(" have another label")[0])
    assert (conflicts > 100) == bool(shift)
    assert "\n" not in message
