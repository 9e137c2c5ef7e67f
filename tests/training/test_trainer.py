"""The options of `trainer`: every one of Lightning's Trainer arrives there, or is refused."""

import inspect

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler

from rnn_lab.errors import ConfigError
from rnn_lab.reserved_options import RESERVED_TRAINER_OPTIONS
from rnn_lab.training.config import RunConfig, TrainerConfig
from rnn_lab.training.trainer import _PASSED
from rnn_lab.validation import validate
from tests.training.small_trainer import OPTIONS, small_trainer

LIGHTNING = {*inspect.signature(L.Trainer.__init__).parameters} - {"self"}


def refusal(**trainer: object) -> str:
    """Return the one line that refuses those options."""
    with pytest.raises(ConfigError) as refused:
        validate(RunConfig, OPTIONS | {"trainer": trainer})
    (line,) = str(refused.value).splitlines()
    return line


def test_every_option_of_lightning_is_passed_or_reserved():
    own = {"accelerator", "devices", "precision", "enable_progress_bar"}  # resolved or derived
    assert LIGHTNING - RESERVED_TRAINER_OPTIONS.keys() == (_PASSED | own) & LIGHTNING
    assert LIGHTNING - RESERVED_TRAINER_OPTIONS.keys() <= TrainerConfig.model_fields.keys()
    assert not RESERVED_TRAINER_OPTIONS.keys() & TrainerConfig.model_fields.keys()
    assert RESERVED_TRAINER_OPTIONS.keys() <= LIGHTNING, "no longer an option of Lightning"
    assert TrainerConfig.model_fields.keys() >= _PASSED


def test_defaults_are_those_of_lightning_but_for_the_projects_own():
    theirs = {
        name: p.default for name, p in inspect.signature(L.Trainer.__init__).parameters.items()
    }
    changed = {"max_epochs", "gradient_clip_val", "log_every_n_steps", "num_sanity_val_steps"}
    changed |= {"enable_model_summary"}
    unset = {  # None means the default, which Lightning's documentation names
        **{"limit_train_batches": 1.0, "limit_val_batches": 1.0, "limit_test_batches": 1.0},
        **{"val_check_interval": 1.0, "gradient_clip_algorithm": "norm"},
    }
    for name in _PASSED - changed:
        expected = unset.get(name) if theirs[name] is None else theirs[name]
        assert TrainerConfig.model_fields[name].default == expected, name


def test_options_arrive_at_the_trainer(tmp_path):
    trainer = small_trainer(
        tmp_path,
        **{"max_epochs": 7, "min_epochs": 2, "max_steps": 40, "min_steps": 3},
        **{"max_time": "00:00:10:00", "gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
        **{"accumulate_grad_batches": 2, "limit_train_batches": 9, "limit_val_batches": 0.5},
        **{"limit_test_batches": 3, "val_check_interval": 4, "check_val_every_n_epoch": 2},
        **{"num_sanity_val_steps": 1, "log_every_n_steps": 5, "deterministic": "warn"},
        **{"benchmark": False, "inference_mode": False, "detect_anomaly": True},
        **{"reload_dataloaders_every_n_epochs": 3, "profiler": "advanced"},
        enable_model_summary=True,
    )
    assert (trainer.max_epochs, trainer.min_epochs) == (7, 2)
    assert (trainer.max_steps, trainer.min_steps) == (40, 3)
    kinds = {type(callback).__name__: callback for callback in trainer.callbacks}
    assert kinds["Timer"].time_remaining() == 600
    assert any(isinstance(callback, ModelSummary) for callback in trainer.callbacks)
    assert (trainer.gradient_clip_val, trainer.gradient_clip_algorithm.value) == (0.5, "value")
    assert trainer.accumulate_grad_batches == 2
    assert (trainer.limit_train_batches, trainer.limit_val_batches) == (9, 0.5)
    assert (trainer.limit_test_batches, trainer.val_check_interval) == (3, 4)
    assert (trainer.check_val_every_n_epoch, trainer.num_sanity_val_steps) == (2, 1)
    assert trainer.log_every_n_steps == 5
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    assert (trainer.test_loop.inference_mode, trainer._detect_anomaly) == (False, True)
    assert trainer.reload_dataloaders_every_n_epochs == 3
    assert isinstance(trainer.profiler, AdvancedProfiler)


def test_profiler_is_built_from_its_target(tmp_path):
    target = {"_target_": "lightning.pytorch.profilers.SimpleProfiler", "filename": "times"}
    trainer = small_trainer(tmp_path, profiler=target)
    assert isinstance(trainer.profiler, SimpleProfiler) and trainer.profiler.filename == "times"
    with pytest.raises(ConfigError, match=r"^trainer\.profiler: .*OrderedDict, not a [^\n]*$"):
        small_trainer(tmp_path, profiler={"_target_": "collections.OrderedDict"})


def test_unknown_option_is_refused_with_a_suggestion():
    line = refusal(max_epoch=3)
    assert line.startswith("trainer.max_epoch: no such option. Did you mean max_epochs?")


@pytest.mark.parametrize("name", sorted(RESERVED_TRAINER_OPTIONS))
def test_reserved_option_is_refused_with_the_one_to_use(name):
    assert refusal(**{name: True}) == (
        f"trainer.{name}: is set by the project; use {RESERVED_TRAINER_OPTIONS[name]}"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("max_epochs", "many"),
            ("max_epochs", 0),
            ("min_epochs", 0),
            ("detect_anomaly", "maybe"),
        ),
        *(("overfit_batches", 1.5), ("val_check_interval", 0), ("num_sanity_val_steps", -2)),
        *(("profiler", "simpel"), ("fast_dev_run", "x"), ("gradient_clip_algorithm", "nrom")),
        *(
            ("limit_val_batches", True),
            ("max_time", 3),
            ("max_time", {"days": "x"}),
            ("max_time", {"hour": 2}),
            ("deterministic", "maybe"),
        ),
    ],
)
def test_wrong_type_or_value_is_one_line(name, value):
    line = refusal(**{name: value})
    assert line.startswith(f"trainer.{name}"), line
