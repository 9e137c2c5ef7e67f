"""What is refused before training, and a monitored metric without a value."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassHammingDistance

from rnn_lab.data.config import DemoConfig, FilesConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.training.checks import check_before_training, check_monitored_mode
from rnn_lab.training.config import RunConfig
from rnn_lab.training.hardware import Hardware
from rnn_lab.training.train import fit
from rnn_lab.validation import validate
from tests.training.small_trainer import small_spec, small_trainer


def test_training_texts_of_one_class_are_refused(tmp_path):
    """Groups are whole: those of a class may all be in other splits."""
    authors = ("a0", "a1", "b0", "b1")
    rows = [f"text number {i},{'ab'[i % 4 > 1]},{authors[i % 4]}" for i in range(160)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label,author", *rows]))
    paths = {"train_path": str(tmp_path / "a.csv"), "cache_dir": str(tmp_path / "cache")}
    options = {"group_column": "author", "batch_size": 16, "eval_batch_size": 16}
    said = set()
    for seed in range(8):
        data = TextDataModule(FilesConfig(**paths, **options, split_seed=seed))
        data.setup()
        classes = np.unique(data.splits["train"].labels)
        try:
            check(data)
            assert len(classes) == 2
        except DataError as error:
            assert len(classes) == 1
            said.add(str(error).replace("'b'", "'a'"))
    assert said == {
        "files: every training text is of the class 'a': the groups of data.group_column are few; "
        "try another data.split_seed"
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def data(cache) -> TextDataModule:
    """90 texts to train on, 10 for validation and 60 for the test."""
    sizes = {"num_train": 100, "num_test": 60, "batch_size": 9, "eval_batch_size": 5}
    module = TextDataModule(DemoConfig(cache_dir=str(cache), **sizes))
    module.setup()
    return module


def check(data: TextDataModule, processes: int = 1, *, fields=(), **options) -> None:
    """Check a run with these options of the trainer, and `fields` of its config."""
    config = small_spec(Path("unused"), **options).config.model_copy(update=dict(fields))
    check_before_training(config, Hardware("cpu", processes, "32-true"), data)


@pytest.mark.parametrize(
    ("processes", "options", "said"),
    [
        (1, {"limit_train_batches": 0.09}, "limit_train_batches=0.09: this share of 10 training"),
        (1, {"limit_val_batches": 0.4}, "limit_val_batches=0.4: this share of 2 validation"),
        (1, {"limit_test_batches": 0.08}, "limit_test_batches=0.08: this share of 12 test"),
        (2, {"limit_train_batches": 0.1}, "limit_train_batches=0.1: this share of 5 training"),
        (2, {"limit_val_batches": 0.5}, "limit_val_batches=0.5: this share of 1 validation batch "),
        (2, {"limit_test_batches": 0.1}, "limit_test_batches=0.1: this share of 6 test"),
        (1, {"overfit_batches": 0.05}, "overfit_batches=0.05: this share of 10 training"),
        (1, {"overfit_batches": 0.1}, "overfit_batches=0.1: this share of 2 validation"),
        (1, {"val_check_interval": 11}, "val_check_interval=11: an epoch has 10 training batches"),
        (2, {"val_check_interval": 6}, "val_check_interval=6: an epoch has 5 training batches"),
        (1, {"limit_train_batches": 3, "val_check_interval": 4}, "val_check_interval=4: an epoch"),
        (1, {"check_val_every_n_epoch": 4}, "check_val_every_n_epoch=4: no epoch would be"),
        (1, {"max_steps": 9}, "max_steps=9: training ends before the first validation, at step 10"),
        (1, {"max_steps": 19, "check_val_every_n_epoch": 2}, "at step 20"),
        (1, {"max_steps": 1, "accumulate_grad_batches": 4, "val_check_interval": 5}, "at step 2"),
        (1, {"accumulate_grad_batches": 4, "val_check_interval": 3}, "=3: .* give 4 or more"),
        (1, {"accumulate_grad_batches": 4, "val_check_interval": 0.3}, "=0.3: .* give 4 or more"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(data, processes, options, said):
    with pytest.raises(ConfigError, match=rf"^trainer\.[^\n]*{said}[^\n]*$"):
        check(data, processes, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"limit_train_batches": 0.1, "limit_val_batches": 0.5, "limit_test_batches": 0.1},
        {"limit_train_batches": 1, "limit_val_batches": 50, "limit_test_batches": 1.0},
        {"fast_dev_run": True, "limit_test_batches": 0.01, "check_val_every_n_epoch": 9},
        {"overfit_batches": 0.5, "limit_train_batches": 0.01},
        {"max_steps": 10},
        {"max_steps": 1, "val_check_interval": 0.1},
        {"max_steps": 1, "accumulate_grad_batches": 4, "val_check_interval": 4},
        {"max_steps": 2, "accumulate_grad_batches": 4, "val_check_interval": 5},
        {"accumulate_grad_batches": 20},
        {"max_epochs": -1, "check_val_every_n_epoch": 9},
    ],
)
def test_options_that_lightning_accepts_are_accepted(data, options, tmp_path):
    check(data, **options)
    if options.get("max_epochs") == -1:
        return
    trainer = small_trainer(tmp_path, **options)
    model = TextClassifier(
        *({"name": "gru", "embedding_dim": 4, "hidden_size": 4}, data.vocab_size, 2),
        *({"name": "adamw"}, {"name": "constant"}),
    )
    found = fit(trainer, model, data, None)
    assert options.get("fast_dev_run") or "val/accuracy" in found


def test_a_training_without_a_test_split_says_how(data):
    del data.splits["test"]
    with pytest.raises(DataError) as error:
        check(data)
    assert str(error.value) == "demo: has no test split; test=false trains without a test"
    check(data, fields={"test": False})
    with pytest.raises(DataError, match="demo: has no split test; choose from: train, validation"):
        check(data, fields={"train": False})


def test_what_is_not_done_is_not_checked(data):
    check(data, fields={"test": False}, limit_test_batches=0.01)
    check(data, fields={"train": False}, limit_train_batches=0.01, monitor="val/accuracy")


@pytest.mark.parametrize(
    ("monitor", "said"),
    [("val/auroc", "all validated texts have the same class"), ("val/f1", None)],
)
def test_a_metric_that_these_texts_leave_undefined_is_refused(data, monitor, said):
    validation = data.splits["validation"]
    data.splits["validation"] = replace(validation, labels=np.ones_like(validation.labels))
    if said is None:
        return check(data, monitor=monitor)
    with pytest.raises(ConfigError, match=rf"^trainer\.monitor={monitor}: is nan [^\n]*{said}"):
        check(data, monitor=monitor)


@pytest.mark.parametrize(
    ("name", "given", "metric", "mode"),
    [
        ("hamming", "auto", MulticlassHammingDistance, "min"),
        ("own_error", "auto", MulticlassAccuracy, "max"),
        ("hamming", "max", MulticlassHammingDistance, None),  # as the user says
        ("hamming_error", "auto", MulticlassHammingDistance, None),
        ("own", "auto", MulticlassAccuracy, None),
    ],
)
def test_a_metric_whose_name_says_the_opposite_needs_a_mode(tmp_path, name, given, metric, mode):
    model = TextClassifier(
        *({"name": "gru", "embedding_dim": 4, "hidden_size": 4}, 10, 2),
        *({"name": "adamw"}, {"name": "constant"}),
        metrics={name: metric},
    )
    options = small_spec(tmp_path, monitor_mode=given).config.model_dump()
    options["trainer"]["monitor"] = f"val/{name}"
    target = f"torchmetrics.classification.{metric.__name__}"
    config = validate(RunConfig, options | {"metrics": {name: {"_target_": target}}})
    if mode is None:
        return check_monitored_mode(config, model)
    with pytest.raises(ConfigError, match=rf"^trainer\.monitor=val/{name}: .*monitor_mode={mode}$"):
        check_monitored_mode(config, model)


class Scripted(Metric):
    """Compute the given values, one a validation."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = list(values)

    def update(self, preds: torch.Tensor) -> None:
        """Ignore the batch."""

    def compute(self) -> torch.Tensor:
        return torch.tensor(self.values.pop(0))


def fit_scripted(folder: Path, data: TextDataModule, *values: float, **options) -> dict:
    model = TextClassifier(
        *({"name": "gru", "embedding_dim": 4, "hidden_size": 4}, data.vocab_size, 2),
        *({"name": "adamw"}, {"name": "constant"}),
        metrics={"own": lambda num_classes: Scripted(*values)},
    )
    options = {"max_epochs": len(values), "limit_train_batches": 1} | options
    trainer = small_trainer(folder, **options)
    for callback in trainer.callbacks:
        if hasattr(callback, "monitor"):
            callback.monitor = "val/own"  # which the options of the tests' runs do not have
    return fit(trainer, model, data, None)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_an_epoch_without_a_number_is_never_the_best(data, tmp_path, mode, caplog):
    values = (math.nan, 0.5, math.nan, 0.25 if mode == "min" else 0.75)
    found = fit_scripted(tmp_path, data, *values, monitor_mode=mode, patience=2)
    assert (found["best_epoch"], found["val/own"]) == (3, values[3])
    (line,) = [m for m in caplog.messages if "nan" in m]  # once, not in each epoch
    assert line.startswith("trainer.monitor=val/own is nan in epoch 0")


@pytest.mark.parametrize("patience", [None, 1])
def test_a_metric_that_is_nan_in_every_epoch_is_an_error(data, tmp_path, patience):
    message = rf"^trainer\.monitor=val/own: is nan in every validation \({patience or 2}\)"
    with pytest.raises(ConfigError, match=message):
        fit_scripted(tmp_path, data, math.nan, math.nan, patience=patience)


def test_a_training_without_a_validation_is_an_error(data, tmp_path):
    with pytest.raises(ConfigError, match=r"^trainer\.max_time: training ended before the first"):
        fit_scripted(tmp_path, data, 0.5, max_time="00:00:00:00")
