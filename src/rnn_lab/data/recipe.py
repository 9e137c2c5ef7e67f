"""What `auto` means for batches and truncation, chosen from counts known before training."""

import math
from typing import Any

import numpy as np

from rnn_lab.data.options import TextOptions
from rnn_lab.validation import AUTO

IMDB_RECIPE: dict[str, Any] = {"max_length": 400, "truncation_side": "left", "batch_size": 64}
# More steps an epoch for few texts: up to so many training texts, a batch of that size.
_BATCH_SIZES = ((1_000, 16), (10_000, 32))
_LARGEST_BATCH = 64
_LENGTH_PERCENTILE = 95  # of the training texts that are not cut
_SHORTEST, _LONGEST = 16, 400  # tokens, data.max_length


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
    batch = next((size for most, size in _BATCH_SIZES if len(lengths) <= most), _LARGEST_BATCH)
    long = math.ceil(np.percentile(lengths, _LENGTH_PERCENTILE)) if len(lengths) else _LONGEST
    return {
        "max_length": min(max(long, _SHORTEST), _LONGEST),
        "truncation_side": "right",
        "batch_size": batch,
    }
