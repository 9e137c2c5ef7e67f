"""What `auto` means for batches and truncation, chosen from counts known before training."""

import math
from typing import Any

import numpy as np

from rnn_lab.data.options import TextOptions
from rnn_lab.validation import AUTO

IMDB_RECIPE: dict[str, Any] = {"max_length": 400, "truncation_side": "left", "batch_size": 64}
SIZES = tuple(IMDB_RECIPE)  # the options of data that this module chooses
# Few texts: small batches, for more steps an epoch, and long texts, since each word counts and time
# is short. Up to so many training texts: data.batch_size, and the most of data.max_length.
_SIZES = ((1_000, 16, 1_000), (3_000, 32, 1_000), (10_000, 32, 600))
_LARGEST_BATCH, _LONGEST = 64, 400
_SHORTEST = 16  # tokens
_LENGTH_PERCENTILE = 98  # of the training texts that are not cut


def resolve_sizes(options: TextOptions, lengths: np.ndarray) -> TextOptions:
    """Return `options` with every `auto` of batches and truncation replaced by what it means.

    Args:
        options: of a data source.
        lengths: integers [examples], the tokens of each training text.
    """
    chosen = IMDB_RECIPE if not options.fits_size else _fitting(lengths)
    if options.max_tokens_per_batch is not None:  # which holds a whole text
        longest = min(chosen["max_length"], options.max_tokens_per_batch)
        chosen = chosen | {"max_length": longest}
    update = {name: value for name, value in chosen.items() if getattr(options, name) == AUTO}
    return options.model_copy(update=update)


def _fitting(lengths: np.ndarray) -> dict[str, Any]:
    sizes = ((batch, longest) for most, batch, longest in _SIZES if len(lengths) <= most)
    batch, longest = next(sizes, (_LARGEST_BATCH, _LONGEST))
    long = math.ceil(np.percentile(lengths, _LENGTH_PERCENTILE)) if len(lengths) else longest
    return {
        "max_length": min(max(long, _SHORTEST), longest),
        "truncation_side": "right",
        "batch_size": batch,
    }
