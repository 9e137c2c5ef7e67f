"""What `auto` means for the options of a run: a recipe for the size of its texts.

The rules were tried on 180 to 9,000 texts of 2 to 51 classes; benchmarks/own_texts.py measures them
beside TF-IDF with logistic regression.
"""

import logging
import math
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.data.class_balance import is_uneven
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.training.config import RunConfig
from rnn_lab.training.spec import RunSpec
from rnn_lab.validation import AUTO, as_typed

log = logging.getLogger(__name__)

IMDB_RECIPE: dict[str, Any] = {
    "model.pooling": "last",
    "model.bidirectional": False,
    "model.ngrams": 0,
    "model.ngram_buckets": 2**20,
    "trainer.max_epochs": 3,
    "trainer.patience": None,
}
_OF_CLASSIFIER = ("pooling", "ngrams", "ngram_buckets", "ngram_weighting")  # of the group model
_STEPS = 800  # of the optimizer, at least, within these numbers of epochs
_FEWEST_EPOCHS, _MOST_EPOCHS = 5, 30
_MOST_TOKENS = 6_500_000  # in more than the fewest epochs: two minutes on two cores
_MOST_BIDIRECTIONAL = 20_000  # texts: a second direction doubles the time
_LARGEST_NGRAM_WEIGHTS = 2**23  # buckets times classes
_VECTORS_LR_FACTOR = 0.25  # few labelled texts spoil what many unlabelled ones have taught
_BUCKETS = 2**12, 2**20  # the fewest and the most


def resolve_recipe(config: RunConfig, data: TextDataModule) -> RunConfig:
    """Return `config` with every `auto` of model, trainer and vectors replaced for `data`.

    The options of data itself are resolved in `data.config`.
    """
    chosen = _fitting(config, data) if data.config.fits_size else IMDB_RECIPE
    chosen = chosen | {"trainer.monitor": config.known_monitor or _monitor(data)}
    if config.is_language_model:
        chosen["model.ngrams"] = 0
    update: dict[str, Any] = {}
    for group in ("model", "trainer"):
        options = getattr(config, group)
        values = {
            name.removeprefix(f"{group}."): value
            for name, value in chosen.items()
            if name.startswith(f"{group}.")
        }
        found = {name: value for name, value in values.items() if getattr(options, name) == AUTO}
        update[group] = options.model_copy(update=found)
    if config.optimizer.vectors_lr_factor == AUTO:
        factor = _VECTORS_LR_FACTOR if data.config.vectors is not None else 1.0
        update["optimizer"] = config.optimizer.model_copy(update={"vectors_lr_factor": factor})
    return config.model_copy(update=update)


def _fitting(config: RunConfig, data: TextDataModule) -> dict[str, Any]:
    lengths = data.training_split.lengths
    batch = data.config.batch_size * config.trainer.accumulate_grad_batches
    steps = math.ceil(len(lengths) / batch)  # an epoch
    tokens = max(int(np.minimum(lengths, data.config.max_length).sum()), 1)  # an epoch
    wanted = min(math.ceil(_STEPS / steps), _MOST_EPOCHS, _MOST_TOKENS // tokens)
    epochs = max(wanted, _FEWEST_EPOCHS)
    return {
        "model.pooling": "max",
        "model.bidirectional": len(lengths) <= _MOST_BIDIRECTIONAL,
        "model.ngrams": 3 if data.text_encoder.vocabulary.unit == "character" else 2,
        "model.ngram_buckets": _ngram_buckets(lengths, data.num_classes),
        "trainer.max_epochs": epochs,
        "trainer.patience": max(3, epochs // 3),
    }


def _monitor(data: TextDataModule) -> str:
    if data.is_multilabel:
        return "val/map"  # the others depend on thresholds, which are chosen after the epoch
    # Of uneven classes accuracy is best where the rare ones are never predicted.
    return "val/f1" if is_uneven(data.class_counts) else "val/accuracy"


def _ngram_buckets(lengths: np.ndarray, num_classes: int) -> int:
    """Return a power of two: four to eight buckets a token of the training texts, in limits.

    Texts have about as many distinct n-grams as tokens. With half a bucket a token, collisions cost
    logistic regression up to 3 points of accuracy, with one up to 1, with three or more little (AG
    News and IMDB, 200 to 2,000 texts).
    """
    fewest, most = _BUCKETS
    most = min(most, _LARGEST_NGRAM_WEIGHTS // num_classes)
    wanted = min(max(8 * int(lengths.sum()), fewest), max(most, fewest))
    return 2 ** int(math.log2(wanted))


@rank_zero_only
def print_recipe(config: RunConfig, resolved: RunConfig, data: TextDataModule) -> None:
    """Print each option that was `auto` and what was chosen, as the command line has it."""
    chosen = []
    for group in ("data", "model", "trainer"):
        before = getattr(config, group)
        after = data.config if group == "data" else getattr(resolved, group)
        unused = _OF_CLASSIFIER if config.is_language_model and group == "model" else ()
        for name, value in after:
            # A source that was found in place of another may have options of its own.
            if getattr(before, name, None) == AUTO != value and name not in unused:
                chosen.append(f"{group}.{name}={as_typed(value)}")
    if chosen and data.config.fits_size:
        print(f"Chosen for these texts (give an option to override it): {' '.join(chosen)}")


@rank_zero_only
def warn_unused_options(spec: RunSpec) -> None:
    """Warn about given options of a classifier that a language model does not have.

    A file of conf may set them: the same model starts a classifier later.
    """
    names = tuple(f"model.{name}=" for name in _OF_CLASSIFIER)
    given = [override for override in spec.raw_overrides if override.startswith(names)]
    if given and spec.config.is_language_model:
        log.warning("%s: no effect with objective=language_model", " ".join(given))
