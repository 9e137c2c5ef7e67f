"""Out of memory is told from other faults, and the batch that follows makes the same steps."""

import numpy as np
import pytest
import torch

from rnn_lab.sweeps.retry import halve_batch, is_out_of_memory
from rnn_lab.training.config import RunConfig
from rnn_lab.validation import validate
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
def test_what_allocators_raise_is_out_of_memory(call):
    assert is_out_of_memory(error_of(call))


def test_an_accelerators_error_is_out_of_memory():
    assert is_out_of_memory(
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    )


@pytest.mark.parametrize("call", [lambda: torch.ones(2) @ torch.ones(3), lambda: 1 / 0])
def test_other_errors_are_not(call):
    assert not is_out_of_memory(error_of(call))


def sizes(options: dict) -> tuple:
    config = validate(RunConfig, options)
    data = config.data
    batch = data.max_tokens_per_batch or data.batch_size
    return batch, config.trainer.accumulate_grad_batches, data.eval_batch_size


def test_half_the_batch_makes_the_same_step():
    options = composed("data=demo", "data.batch_size=8", "data.eval_batch_size=32").model_dump()
    seen = [sizes(options)]
    while (smaller := halve_batch(options)) != options:
        options = smaller
        seen.append(sizes(options))
    assert seen == [
        *((8, 1, 32), (4, 2, 16), (2, 4, 8), (1, 8, 4), (1, 8, 2), (1, 8, 1)),
    ]


def test_a_batch_of_tokens_goes_on_holding_the_longest_review():
    tokens = ("data.max_length=300", "data.max_tokens_per_batch=1000", "data.eval_batch_size=1")
    options = composed("data=demo", *tokens, "trainer.accumulate_grad_batches=3").model_dump()
    seen = [sizes(options)]
    while (smaller := halve_batch(options)) != options:
        options = smaller
        seen.append(sizes(options))
    assert seen == [(1000, 3, 1), (500, 6, 1), (300, 12, 1)]
