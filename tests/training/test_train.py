"""train.py on demo reviews: the options that change what a run does, callbacks and debugging."""

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.errors import ConfigError
from rnn_lab.training.config import TrainerConfig
from rnn_lab.training.data_report import log_duplicates
from rnn_lab.training.hardware import choose_precision
from tests.cli.forked import run_warm_command
from tests.test_conf import composed
from tests.training.killing import differences, leavings

USERS = "tests.training.user_callbacks"
SMALL = (
    *("data=demo", "trainer=cpu", "trainer.precision=32-true", "logger=none", "data.batch_size=32"),
    *("data.num_train=200", "data.num_test=40", "model.embedding_dim=8", "model.hidden_size=8"),
)


def train(cwd: Path, name: str, *arguments: str, fails: bool = False) -> str:
    """Train in the folder `name` and return what was printed on stderr."""
    done = run_warm_command("train.py", *SMALL, *arguments, f"hydra.run.dir={name}", cwd=cwd)
    assert (done.returncode != 0) == fails, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


def epoch_metrics(run: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv that end an epoch, without timings and empty cells."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [
            {n: c for n, c in row.items() if c and "second" not in n}
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if any(name.startswith(("train/", "val/")) for name in row)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs with a constant learning rate, without plots."""
    cwd = tmp_path_factory.mktemp("trained")
    train(cwd, "run", "trainer.max_epochs=2", "scheduler=constant", "plots=false")
    return cwd / "run"


def test_run_without_plots_has_all_else(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"checkpoints", "metrics.csv", "predictions.csv", "result.json"} < names
    assert "plots" not in names


def test_checkpoint_can_be_tested_without_training(trained, tmp_path):
    line = ("train=false", f"ckpt_path={trained}/checkpoints/best.ckpt", "plots=false")
    train(tmp_path, "test", *line)
    expected, found = result(trained), result(tmp_path / "test")
    tested = [name for name in expected if name.startswith("test/")]
    assert len(tested) >= 4 and {n: found[n] for n in tested} == {n: expected[n] for n in tested}
    assert found["best_epoch"] == expected["best_epoch"]
    assert not [name for name in found if name.startswith("val/")]
    predictions = [folder / "predictions.csv" for folder in (trained, tmp_path / "test")]
    assert predictions[0].read_bytes() == predictions[1].read_bytes()


def test_checkpoint_of_another_network_is_refused_in_one_line(trained, tmp_path):
    line = ("train=false", f"ckpt_path={trained}/checkpoints/best.ckpt", "model.hidden_size=5")
    (error,) = train(tmp_path, "test", *line, fails=True).splitlines()
    assert error.startswith(f"error: ckpt_path={trained}/checkpoints/best.ckpt: its weights do not")
    assert "; eval.py run=" in error


def test_run_without_test_has_no_test_metrics(trained, tmp_path):
    train(tmp_path, "run", "trainer.max_epochs=2", "scheduler=constant", "test=false")
    found, expected = result(tmp_path / "run"), result(trained)
    assert not [name for name in found if name.startswith("test/")]
    validated = [name for name in expected if name.startswith("val/")]
    assert {n: found[n] for n in validated} == {n: expected[n] for n in validated}
    assert not (tmp_path / "run" / "predictions.csv").exists()
    assert (tmp_path / "run" / "plots" / "learning_curves.png").exists()


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outputs of a run that has three epochs from the start."""
    cwd = tmp_path_factory.mktemp("longer")
    train(cwd, "run", "trainer.max_epochs=3", "scheduler=constant", "plots=false")
    return leavings(cwd / "run")


def test_more_epochs_of_a_finished_run_have_the_bits_of_one_run(trained, longer, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    printed = train(tmp_path, "run", "trainer.max_epochs=3", "scheduler=constant", "plots=false")
    assert list(differences(longer, leavings(tmp_path / "run"))) == []
    (line,) = [line for line in printed.splitlines() if "the training was complete" in line]
    assert "after 2 epochs up to trainer.max_epochs=3, on CPU bit-identical to a run" in line
    assert "resumed with other options" not in printed


def test_complete_training_is_extended_from_its_last_checkpoint(trained, longer, tmp_path):
    options = ("trainer.max_epochs=3", "scheduler=constant", "plots=false")
    train(tmp_path, "run", *options, f"ckpt_path={trained}/checkpoints/last.ckpt")
    found = leavings(tmp_path / "run")
    other = {one.partition(":")[0].rstrip("/0123456789") for one in differences(longer, found)}
    assert other == {"/result.json/overrides", "/result.json/config_fingerprint"}


def test_an_interrupted_run_keeps_its_precision_where_auto_means_another_one(tmp_path):
    """The whole run and its copy, as of an interruption, which continues with `auto`."""
    fastest = choose_precision(TrainerConfig(), "cpu")
    began = "32-true" if fastest == "bf16-mixed" else "bf16-mixed"
    options = (
        *("trainer.max_epochs=2", "plots=false"),
        "+callbacks.keep={_target_: tests.training.user_callbacks.KeepFirst}",
    )
    train(tmp_path, "run", *options, f"trainer.precision={began}")
    refused = train(tmp_path, "again", *options, f"trainer.precision={fastest}", fails=True)
    assert f"trainer.precision={began} (saved), {fastest} (requested)" in refused
    printed = train(tmp_path, "again", *options, "trainer.precision=auto")
    assert f"trainer.precision=auto: keeps {began}, in which the run began" in printed
    assert "resumes in epoch 1" in printed
    other = differences(leavings(tmp_path / "run"), leavings(tmp_path / "again"))
    assert {one.partition(":")[0].rstrip("/0123456789") for one in other} <= {
        *("/result.json/overrides", "/result.json/config_fingerprint")
    }


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("ckpt_path=runs/last.ckpt",), "ckpt_path=runs/last.ckpt: "),
        (("trainer.fast_dev_run=true",), None),
    ],
    ids=["checkpoint", "dry run"],
)
def test_run_is_kept_until_resume_never_trains(trained, tmp_path, options, error):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()  # else it would be refused as finished
    printed = train(tmp_path, "run", *options, "resume=never", fails=error is not None)
    assert error is None or f"error: {error}" in printed
    for name in ("best.ckpt", "last.ckpt"):
        kept = tmp_path / "run" / "checkpoints" / name
        assert kept.read_bytes() == (trained / "checkpoints" / name).read_bytes()


def test_more_epochs_with_a_learning_rate_that_is_restated(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    options = ("trainer.max_epochs=4", "scheduler=constant", "optimizer.lr=0.001", "plots=false")
    printed = train(tmp_path, "run", *options)
    assert "optimizer.lr=0.004 (saved), 0.001 (requested)" in printed
    assert "up to trainer.max_epochs=4, not bit-identical to a run that is started" in printed
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        (rate,) = [float(row["lr"]) for row in csv.DictReader(file) if row["lr"]]
    assert rate == pytest.approx(0.001)
    assert result(tmp_path / "run")["epochs"] == 4


@pytest.mark.parametrize("folder", ["the same", "another"])
def test_rollback_halves_a_learning_rate_that_is_restated(trained, tmp_path, folder):
    spoil = f"+callbacks.spoil={{_target_: {USERS}.RollBack, step: 13}}"
    options = ("trainer.on_nonfinite=rollback", "trainer.log_every_n_steps=1", spoil)
    options += ("scheduler=constant", "plots=false")
    if folder == "the same":
        train(tmp_path, "run", *options, "trainer.max_epochs=2")
    else:
        options += (f"ckpt_path={trained}/checkpoints/last.ckpt",)
    printed = train(tmp_path, "run", *options, "trainer.max_epochs=3", "optimizer.lr=0.001")
    assert "rolls back to step 12, with half the learning rate" in printed
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rates = {int(row["step"]): float(row["lr"]) for row in csv.DictReader(file) if row["lr"]}
    after = [rates[step] for step in range(12, 18)]
    assert after == pytest.approx([0.0005] * 6)


def test_another_weight_decay_keeps_the_rate_of_a_rollback(tmp_path):
    spoil = f"+callbacks.spoil={{_target_: {USERS}.RollBack, step: 3}}"
    options = ("scheduler=constant", "scheduler.warmup_ratio=0", "trainer.log_every_n_steps=1")
    options += ("plots=false", "trainer.on_nonfinite=rollback", "optimizer.lr=0.004")
    train(tmp_path, "run", *options, "trainer.max_epochs=1", spoil)
    copied = f"ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    train(tmp_path, "more", *options, "trainer.max_epochs=2", "optimizer.weight_decay=0.2", copied)
    with (tmp_path / "more" / "metrics.csv").open(newline="") as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file) if row["lr"]]
    assert rates[-1] == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("trainer.max_epochs=2", "scheduler=constant"), "or a larger trainer.max_epochs to train"),
        (("trainer.max_epochs=3", "scheduler=constant", "seed=2"), "trained with other options"),
    ],
)
def test_finished_run_is_kept(trained, tmp_path, options, message):
    shutil.copytree(trained, tmp_path / "run")
    (line,) = train(tmp_path, "run", *options, fails=True).splitlines()
    assert f"hydra.run.dir={tmp_path}/run: contains a finished run" in line and message in line
    for path in filter(Path.is_file, trained.rglob("*")):
        if path.name not in ("job.lock", "train.log"):
            assert (tmp_path / "run" / path.relative_to(trained)).read_bytes() == path.read_bytes()


def test_fast_dev_run_saves_nothing(tmp_path):
    train(tmp_path, "run", "debug=fast_dev_run")
    assert not list((tmp_path / "run").rglob("*.ckpt"))
    assert not (tmp_path / "run" / "result.json").exists()


def test_debug_overfit_learns_its_batches(tmp_path):
    """Of whole batches: Lightning replaces samplers it does not know by one of examples."""
    train(tmp_path, "run", "debug=overfit", "optimizer.lr=0.03", "test=false", "plots=false")
    epochs = [row for row in epoch_metrics(tmp_path / "run") if "train/accuracy" in row]
    assert len(epochs) == 20 and int(epochs[-1]["step"]) == 20 * 3 - 1
    assert float(epochs[-1]["train/accuracy"]) > 0.95
    hits = float(epochs[0]["train/accuracy"]) * 3 * 32
    assert hits == pytest.approx(round(hits), abs=1e-3)  # of 96 examples


@pytest.mark.parametrize(
    ("name", "options", "epochs"),
    [("limit", ("data.batch_size=1", "data.eval_batch_size=1"), 3), ("profiler", (), 1)],
)
def test_debug_config_trains(tmp_path, name, options, epochs):
    train(tmp_path, "run", f"debug={name}", *options, "plots=false")
    assert result(tmp_path / "run")["epochs"] == epochs


def test_callback_of_the_user_runs_and_is_resumed(tmp_path):
    target = f"{{_target_: {USERS}.CountSteps, file: {tmp_path}/steps}}"
    options = (f"+callbacks.count={target}", "trainer.max_epochs=2", "scheduler=constant")
    options += ("plots=false",)
    train(tmp_path, "run", *options)
    assert (tmp_path / "steps").read_text() == "12"
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    train(tmp_path, "longer", *options, "trainer.max_epochs=3", f"ckpt_path={last}")
    assert (tmp_path / "steps").read_text() == "18"
    assert result(tmp_path / "run")["callbacks"] == {"count": f"{USERS}.CountSteps"}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "+callbacks.x={_target_: collections.OrderedDict}",
            "callbacks.x: collections.OrderedDict",
        ),
        ("+callbacks.x={_target_: lightning.NoSuchThing}", "callbacks.x: lightning.NoSuchThing"),
        (
            "+callbacks.x={_target_: lightning.pytorch.callbacks.StochasticWeightAveraging, "
            "swa_lrs: 0.01}",
            "callbacks.x: best.ckpt would keep weights that are not averaged",
        ),
    ],
)
def test_impossible_callback_is_refused_in_one_line(tmp_path, option, message):
    (line,) = train(tmp_path, "run", option, fails=True).splitlines()
    assert line.startswith("error: ") and message in line
    assert not list(tmp_path.rglob("*.ckpt"))


def test_early_stopping_beside_that_of_patience_is_refused(tmp_path):
    options = ("callbacks=early_stopping", "trainer.monitor=val/loss", "trainer.patience=3")
    (line,) = train(tmp_path, "run", *options, fails=True).splitlines()
    assert line.startswith("error: callbacks.early_stopping: trainer.patience=3 watches val/loss")
    train(tmp_path, "run", *options, "trainer.patience=null", "trainer.max_epochs=1", "plots=false")


@pytest.mark.parametrize("option", ["+callbacks.x={patience: 3}", "+metrics.x={beta: 2.0}"])
def test_an_entry_without_a_target_is_refused(option):
    with pytest.raises(ConfigError, match=r"\.x: needs a _target_, the class to build"):
        composed("data=demo", option)


def logged(tmp_path, caplog, test: list[str]) -> logging.LogRecord:
    """Return what is logged of 400 training texts, of which validation has 40, and `test`."""
    for name, texts in {"train": [f"text {i}" for i in range(400)], "test": test}.items():
        rows = [f"{text},{i % 2}" for i, text in enumerate(texts)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    paths = {f"{name}_path": str(tmp_path / f"{name}.csv") for name in ("train", "test")}
    data = TextDataModule(FilesConfig(cache_dir=str(tmp_path / "cache"), **paths))
    data.setup()
    caplog.clear()
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
    record = logged(tmp_path, caplog, [*leaks, *leaks[:2], "new", "new"])  # with other labels
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    words, exact = message.partition(" of 204 test examples (")[::2]
    assert 150 <= int(words.rpartition(" ")[2]) <= 202
    assert exact.startswith("0 exactly)")
    conflicts = int(message.partition("; ")[2].partition(" have another label")[0])
    assert conflicts > 100 if shift else conflicts == 0
    assert "\n" not in message
