"""A run is trained again after an error: from its own checkpoint, or with a smaller batch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rnn_lab.errors import ConfigError
from rnn_lab.training.config import RunConfig
from rnn_lab.training.out_of_memory import is_out_of_memory
from rnn_lab.training.retry import retry_run
from rnn_lab.training.spec import RunSpec, config_fingerprint
from rnn_lab.validation import validate
from tests.cli.forked import run_warm_command
from tests.test_conf import composed


def error_of(call) -> Exception:
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


def wrapped() -> None:
    try:
        torch.empty(2**50)
    except RuntimeError as error:
        raise ValueError("in the loader") from error


@pytest.mark.parametrize(
    "call", [lambda: torch.empty(2**50), lambda: np.empty(2**55), lambda: bytes(2**62), wrapped]
)
def test_errors_of_allocators_are_out_of_memory(call):
    assert is_out_of_memory(error_of(call))


def test_error_of_an_accelerator_is_out_of_memory():
    assert is_out_of_memory(
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    )


@pytest.mark.parametrize("call", [lambda: torch.ones(2) @ torch.ones(3), lambda: 1 / 0])
def test_other_errors_are_not_out_of_memory(call):
    assert not is_out_of_memory(error_of(call))


def sizes(spec: RunSpec) -> tuple:
    config = validate(RunConfig, spec.config.model_dump())  # still a possible config
    data = config.data
    batch = data.max_tokens_per_batch or data.batch_size
    return batch, config.trainer.accumulate_grad_batches, data.eval_batch_size


def halved(config: RunConfig) -> list[RunSpec]:
    """Return the run and its versions with smaller and smaller batches."""
    specs = [RunSpec(config, Path("run"))]
    while (smaller := specs[-1].with_half_batch()) is not specs[-1]:
        specs.append(smaller)
    return specs


def test_half_the_batch_has_half_the_unlabelled_texts():
    size = ("data.batch_size=4", "data.unlabelled=more.txt", "data.unlabelled_batch_size=10")
    specs = halved(composed("data=demo", "loss=mixed", "data.eval_batch_size=1", *size))
    assert [spec.config.data.unlabelled_batch_size for spec in specs] == [10, 5, 2]
    assert [spec.config.trainer.accumulate_grad_batches for spec in specs] == [1, 2, 4]


def test_half_the_batch_makes_the_same_step():
    config = composed("data=demo", "data.batch_size=8", "data.eval_batch_size=32")
    specs = halved(config)
    seen = [sizes(spec) for spec in specs]
    assert seen == [
        *((8, 1, 32), (4, 2, 16), (2, 4, 8), (1, 8, 4), (1, 8, 2), (1, 8, 1)),
    ]
    assert [spec.batch_halvings for spec in specs] == list(range(6))
    assert {spec.fingerprint for spec in specs} == {config_fingerprint(config)}  # the same job
    assert [spec.describe_batch() for spec in specs[2:4]] == [
        "data.batch_size=2 trainer.accumulate_grad_batches=4",
        "data.batch_size=1 trainer.accumulate_grad_batches=8 data.eval_batch_size=4",
    ]


def test_limits_in_batches_keep_their_texts():
    limits = {"limit_train_batches": 6, "limit_val_batches": 3, "val_check_interval": 2}
    given = [f"trainer.{name}={value}" for name, value in limits.items()]
    config = composed(
        "data=demo",
        "data.batch_size=8",
        "data.eval_batch_size=2",
        "trainer.limit_test_batches=0.5",
        *given,
    )
    seen = [spec.config.trainer for spec in halved(config)][:3]
    assert [trainer.limit_train_batches for trainer in seen] == [6, 12, 24]
    assert [trainer.val_check_interval for trainer in seen] == [2, 4, 8]
    assert [trainer.limit_val_batches for trainer in seen] == [3, 6, 6]  # of one text
    assert [trainer.limit_test_batches for trainer in seen] == [0.5] * 3


def test_batch_of_tokens_still_holds_the_longest_text():
    tokens = ("data.max_length=300", "data.max_tokens_per_batch=1000", "data.eval_batch_size=1")
    config = composed("data=demo", *tokens, "trainer.accumulate_grad_batches=3")
    seen = [sizes(spec) for spec in halved(config)]
    assert seen == [(1000, 3, 1), (500, 6, 1), (300, 12, 1)]


def test_the_options_of_a_sweep_are_refused_for_a_single_run(tmp_path):
    for option, says in (("sweep=mine", "; add -m"), ("report_dir=there", "is of a sweep; add -m")):
        spec = RunSpec(composed("data=demo", option), tmp_path)
        with pytest.raises(ConfigError, match=f"^{option}: .*{says}$"):
            retry_run(spec)


@pytest.mark.parametrize("where", ["data", "training"])
def test_a_retry_resumes_from_a_checkpoint_of_the_run_alone(tmp_path, where):
    """With resume=never, that of the folder is one of another run until it has been replaced."""

    def train(*options: str, fails: str) -> str:
        line = (
            *("experiment=smoke", "data.num_train=100", "data.num_test=20", "plots=false"),
            *("trainer=cpu", "trainer.max_epochs=2", "baseline=none", "hydra.run.dir=run"),
            *("trainer.checkpoint_every_n_steps=1", f"data.cache_dir=cache/{fails}"),
            *("plugins=[tests.sweeps.fails_once]", "data.tokenizer=fails_once"),
            *("+callbacks.fail._target_=tests.sweeps.fails_once.FailsOnce", *options),
        )
        return run_warm_command("train.py", *line, cwd=tmp_path, env={"FAILS": fails}).stderr

    assert "RuntimeError: once, in training" in train(fails="training")
    assert (tmp_path / "run/checkpoints/last.ckpt").exists()
    (tmp_path / "run/pruned.json").write_text("{}")  # of an earlier trial: a single run is not it
    assert "RuntimeError: once, in training" in train("resume=never", fails="training")
    printed = train("resume=never", "max_retries=1", fails=where)
    assert f"RuntimeError: once, in {where}; retrying, 1 of 1 retries left" in printed
    assert ("resumes in epoch 1 after " in printed) == (where == "training")
    assert (tmp_path / "run/result.json").exists()
