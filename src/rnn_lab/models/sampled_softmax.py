"""The softmax over a vocabulary, of all words or of a sample, without the logits of all of them.

The loss of a prediction is log(sum_j exp(s_j)) - s_y, with the logit s_j of every word j and that
of the right one, y. In training the sum is estimated from a few words (Bengio and Senecal 2008,
"Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language Model"; Jean
et al. 2015): the right word itself, and a sample that all predictions of a batch share, whose
terms are divided by their probability of being drawn. So the estimate of the sum is unbiased, and
with every word drawn it is exact.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_lab.data.vocabulary import UNK_ID
from rnn_lab.models.fast.autocast import autocast_dtype, custom_bwd, custom_fwd
from rnn_lab.models.fast.second_derivatives import once_differentiable

# Predictions and words whose logits are computed together. On a CPU they stay in a core's cache; a
# GPU needs large blocks to be busy.
_CPU_BLOCK, _GPU_BLOCK = (512, 1024), (4096, 32768)
# On a CPU, predictions and words are padded to multiples of these: oneDNN compiles a product in
# bfloat16 for each shape and keeps the last 1,024. New shapes in each step take time, and leave
# small blocks of memory between those of the step, which then cannot be reused.
PREDICTIONS_MULTIPLE, _WORDS_MULTIPLE = 512, 128


def inclusion_probabilities(vocab_size: int, num_sampled: int) -> Tensor:
    """Return the probability with which each word is drawn, float64 [vocab_size].

    Words are drawn independently of each other, `num_sampled` on average. The probability is
    proportional to log(1 + 1 / rank), as if frequencies followed Zipf's law, and at most 1: the
    most frequent words are always drawn. That of padding, id 0, is 0. The ids of a vocabulary rank
    its words by frequency; in another order the loss is as right, but varies more.
    """
    words = vocab_size - UNK_ID
    if num_sampled >= words:
        found = torch.ones(words, dtype=torch.float64)
    else:
        weights = torch.log1p(1 / torch.arange(1, words + 1, dtype=torch.float64))
        # The first k words are certain, and the others share the rest; they are the fewest for
        # which no share is above 1. Weights fall, so that the largest share is that of word k + 1.
        rest = weights.flip(0).cumsum(0).flip(0)  # [words]: of word k + 1 and all after it
        shares = (num_sampled - torch.arange(words)) * weights / rest
        certain = int((shares > 1).sum())
        found = (num_sampled - certain) * weights / rest[certain]
        found[:certain] = 1
    return F.pad(found, (UNK_ID, 0))


def draw_words(probabilities: Tensor) -> Tensor:
    """Draw a sample by `inclusion_probabilities`; return its ids, int64 [sampled], ascending."""
    numbers = torch.rand(len(probabilities), dtype=probabilities.dtype, device=probabilities.device)
    return (numbers < probabilities).nonzero()[:, 0]


def softmax_losses(
    states: Tensor,
    target_logits: Tensor,
    targets: Tensor,
    words: Tensor,
    table: Tensor,
    offsets: Tensor,
    vocab_size: int,
) -> Tensor:
    """Return the loss of each prediction in nats, [predictions].

    Args:
        states: [predictions, features]: the logit of word j is states @ table[j] + offsets[j].
        target_logits: [predictions], of the right words, without the correction of a sample.
        targets: the ids of the right words, int64 [predictions].
        words: the distinct ids of the words that the sum is computed from, int64 [words].
        table: their vectors, [words, features].
        offsets: their biases less the logarithm of their probability of being drawn, [words].
        vocab_size: number of ids.
    """
    place_of = targets.new_full((vocab_size,), -1)
    place_of[words] = torch.arange(len(words), device=words.device)
    others = _LogSumExpOfOthers.apply(states, table, offsets, place_of[targets])
    return F.softplus(others - target_logits)  # log(exp(others) + exp(target)) - target


class _LogSumExpOfOthers(torch.autograd.Function):
    """log(sum_j exp(states @ table[j] + offsets[j])) over all j but `places`, [predictions].

    Logits are computed in blocks and again in the backward pass: to write and read all of them
    takes several times as long as the products. `places` is -1 where no j is left out.
    """

    @staticmethod
    @custom_fwd
    def forward(ctx: Any, states: Tensor, table: Tensor, offsets: Tensor, places: Tensor) -> Tensor:
        dtype = autocast_dtype(states.device.type)
        ctx.dtypes = states.dtype, table.dtype
        if dtype is not None and states.dtype != torch.float64:
            states, table = states.to(dtype), table.to(dtype)
        ctx.sizes = len(states), len(table)
        states = pad_rows(states, PREDICTIONS_MULTIPLE)
        places = F.pad(places, (0, len(states) - len(places)), value=-1)
        table = pad_rows(table, _WORDS_MULTIPLE)
        offsets = F.pad(offsets, (0, len(table) - len(offsets)), value=-math.inf)
        found = offsets.new_full((len(states),), -math.inf)

        def add_terms(part: int, rows: slice, words: slice) -> None:
            logits = _logits(states, table, offsets, places, rows, words)
            found[rows] = torch.logaddexp(found[rows], logits.logsumexp(1))

        _for_blocks(states, table, add_terms)
        ctx.save_for_backward(states, table, offsets, places, found)
        return found[: ctx.sizes[0]]

    @staticmethod
    @once_differentiable("compute the loss with torch.nn.functional.cross_entropy")
    @custom_bwd
    def backward(ctx: Any, gradient: Tensor) -> Any:
        states, table, offsets, places, found = ctx.saved_tensors
        gradient = F.pad(gradient, (0, len(states) - len(gradient)))
        of_states = gradient.new_zeros(states.shape)
        of_table = gradient.new_zeros((_num_parts(states), *table.shape))
        of_offsets = offsets.new_zeros((_num_parts(states), *offsets.shape))
        # Without any word the sum is 0 and its logarithm infinite: the shares below are then 0.
        normalizers = found.clamp(min=torch.finfo(found.dtype).min)

        def add_gradients(part: int, rows: slice, words: slice) -> None:
            logits = _logits(states, table, offsets, places, rows, words)
            shares = logits.sub_(normalizers[rows, None]).exp_().mul_(gradient[rows, None])
            of_offsets[part, words] += shares.sum(0)
            shares = shares.to(states.dtype)
            of_states[rows] += shares @ table[words]
            of_table[part, words] += shares.t() @ states[rows]

        _for_blocks(states, table, add_gradients)
        predictions, words = ctx.sizes
        return (
            of_states[:predictions].to(ctx.dtypes[0]),
            of_table.sum(0)[:words].to(ctx.dtypes[1]),
            of_offsets.sum(0)[:words],
            None,
        )


def pad_rows(x: Tensor, multiple: int) -> Tensor:
    """Return x [rows, features] with rows of zeros up to a multiple of rows."""
    return F.pad(x, (0, 0, 0, -len(x) % multiple))


def _num_parts(states: Tensor) -> int:
    """Return the number of parts of the rows that threads compute side by side."""
    if states.device.type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), len(states) // _CPU_BLOCK[0]))


def _for_blocks(states: Tensor, table: Tensor, work: Callable[[int, slice, slice], None]) -> None:
    """Call work(part, rows, words) for each block, those of a part of the rows one by one."""
    height, width = _CPU_BLOCK if states.device.type == "cpu" else _GPU_BLOCK
    blocks = [slice(row, row + height) for row in range(0, len(states), height)]
    count = _num_parts(states)

    def run(part: int) -> None:
        # Both are settings of a thread.
        with torch.no_grad(), torch.autocast(states.device.type, enabled=False):
            for rows in blocks[part * len(blocks) // count : (part + 1) * len(blocks) // count]:
                for word in range(0, len(table), width):
                    work(part, rows, slice(word, word + width))

    if count == 1:
        run(0)
    else:
        from rnn_lab.models.fast.native import parallel_for  # imports numba: no prediction waits

        parallel_for(count, run)


def _logits(
    states: Tensor, table: Tensor, offsets: Tensor, places: Tensor, rows: slice, words: slice
) -> Tensor:
    """Return the logits of a block in the type of `offsets`, -inf for those to leave out."""
    logits = (states[rows] @ table[words].t()).to(offsets.dtype) + offsets[words]
    place = places[rows] - words.start
    out = ((place >= 0) & (place < logits.shape[1])).nonzero()[:, 0]
    logits[out, place[out]] = -math.inf
    return logits
