"""Everything between a `data` config and the batches of a run."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from rnn_lab.data.config import AutoConfig, DataConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.duplicates import DuplicateCounts, count_duplicates, leaked_rows, split_hashes
from rnn_lab.data.encode import EncodedSplit, encode_corpus, fit_vocabulary
from rnn_lab.data.samplers import Batch, BatchDataset, BucketBatchSampler, DistributedBatchSampler
from rnn_lab.data.sources.registry import load_corpus
from rnn_lab.data.splits import split_validation
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.token_sampler import TokenBatchSampler
from rnn_lab.errors import CheckpointError, DataError


class TextDataModule(L.LightningDataModule):
    """The reviews of one corpus as batches.

    After `setup`: `corpus`, `text_encoder`, `class_names`, `splits` (those of "train",
    "validation" and "test" that there are). A Trainer must leave the samplers alone
    (`use_distributed_sampler=False`): they share the batches out among its ranks themselves.
    """

    corpus: Corpus
    splits: dict[str, EncodedSplit]

    def __init__(
        self,
        config: DataConfig,
        *,
        seed: int = 0,
        allow_fallback: bool = False,
        text_encoder: TextEncoder | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Promise the reviews of `config`, in batches whose order depends on `seed` alone.

        Args:
            config: checked options.
            seed: of the order of the training batches.
            allow_fallback: take the demo reviews where `data=auto` finds no others.
            text_encoder: of a finished run, to be used in place of a new vocabulary.
            class_names: of a finished run: labels become indices into these.
        """
        super().__init__()
        self.config = config
        self._seed = seed
        self._allow_fallback = allow_fallback
        self._text_encoder = text_encoder
        self._class_names = None if class_names is None else tuple(class_names)
        self._is_set_up = False
        self._start = (0, 0)
        self._left_out: frozenset[tuple[int, int]] = frozenset()

    def prepare_data(self) -> None:
        """Fetch, cut and encode the reviews into the cache, where they are not there yet."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Map the encoded reviews into memory, all splits at whatever stage.

        Raises:
            DataError: the reviews cannot be had, or are not of the expected classes.
        """
        if self._is_set_up:
            return
        config, cache_dir = self.config, Path(self.config.cache_dir)
        corpus = load_corpus(config, allow_fallback=self._allow_fallback)
        if isinstance(config, AutoConfig):
            # A checkpoint must name what was found: elsewhere `auto` may find other reviews.
            config = self.config = config.demo() if corpus.synthetic else config.imdb()
        train_rows, validation_rows = split_validation(corpus, config)
        if self._text_encoder is None:
            if config.drop_duplicates:
                keys = split_hashes(corpus, cache_dir, train_rows, validation_rows)
                train_rows = train_rows[~leaked_rows(keys)]
                if not len(train_rows):
                    raise DataError(
                        f"{corpus.name}: every training review stands in validation or test too; "
                        "with data.drop_duplicates=true none is left"
                    )
            vocabulary = fit_vocabulary(corpus, train_rows, config)
            self._text_encoder = TextEncoder(vocabulary, config.max_length, config.truncation_side)
        splits = encode_corpus(corpus, self._text_encoder.vocabulary, cache_dir)
        if "validation" not in splits:
            splits["validation"] = splits["train"].take(validation_rows)
        splits["train"] = splits["train"].take(train_rows)
        self._train_rows = train_rows
        self._class_names = self._class_names or corpus.class_names
        new_label = _translate(corpus.class_names, self._class_names)
        self.splits = {
            name: replace(split, labels=new_label[split.labels])
            for name, split in splits.items()
            if len(split)
        }
        self.corpus = corpus
        self._rows = train_rows, validation_rows
        self._is_set_up = True

    @cached_property
    def duplicates(self) -> dict[str, dict[str, DuplicateCounts]]:
        """How many reviews stand more than once; see `count_duplicates`."""
        return count_duplicates(split_hashes(self.corpus, Path(self.config.cache_dir), *self._rows))

    @property
    def text_encoder(self) -> TextEncoder:
        """What turns a review into ids."""
        assert self._text_encoder is not None, "call setup first"
        return self._text_encoder

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        assert self._class_names is not None, "call setup first"
        return self._class_names

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return len(self.class_names)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.text_encoder.vocab_size

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of like length in an order of each epoch's own."""
        dataset, config = self._dataset("train"), self.config
        lengths, seed, replicas = dataset.lengths, self._seed, self._replicas()
        sampler: DistributedBatchSampler
        if config.max_tokens_per_batch is not None:
            sampler = TokenBatchSampler(lengths, config.max_tokens_per_batch, seed=seed, **replicas)
        else:
            size = config.batch_size
            sampler = BucketBatchSampler(lengths, size, shuffle=True, seed=seed, **replicas)
        sampler.resume_at(*self._start)
        sampler.exclude_batches(self._left_out)
        return self._dataloader(dataset, sampler)

    def resume_at(self, epoch: int, batch: int) -> None:
        """Let the training batches begin in the midst of an epoch, for a training that goes on."""
        self._start = (epoch, batch)

    def exclude_batches(self, batches: frozenset[tuple[int, int]]) -> None:
        """Train without these batches, each an epoch and a number: see DistributedBatchSampler."""
        self._left_out = batches

    def training_texts(self, rows: Sequence[int]) -> list[tuple[str, str]]:
        """Name and text of reviews of the training split, by their positions in it."""
        train = self.corpus.train
        places = [int(self._train_rows[row]) for row in rows]
        return [(train.names[place], train.texts[place]) for place in places]

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation reviews, the longest first."""
        return self.dataloader_for("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test reviews, the longest first."""
        return self.dataloader_for("test")

    def dataloader_for(self, split: str) -> DataLoader[Batch]:
        """Every review of a split once, the longest first.

        Raises:
            DataError: there is no such split.
        """
        dataset = self._dataset(split)
        sampler = BucketBatchSampler(
            dataset.lengths, self.config.eval_batch_size, shuffle=False, **self._replicas()
        )
        return self._dataloader(dataset, sampler)

    def sample_evenly(self, split: str, count: int) -> Batch:
        """`count` reviews of a split (all, where there are fewer), always the same ones.

        Raises:
            DataError: there is no such split.
        """
        dataset = self._dataset(split)
        rows = np.linspace(0, len(dataset) - 1, min(count, len(dataset)))
        return dataset[rows.round().astype(np.int64)]

    def _dataset(self, name: str) -> BatchDataset:
        if name not in self.splits:
            raise DataError(
                f"{self.corpus.name}: no {name} reviews; there are: {', '.join(self.splits)}"
            )
        return BatchDataset(
            self.splits[name],
            max_length=self.text_encoder.max_length,
            truncation_side=self.text_encoder.truncation_side,
        )

    def _replicas(self) -> dict[str, int]:
        """This process among those that share each batch."""
        return {
            "rank": self.trainer.global_rank if self.trainer else 0,
            "num_replicas": self.trainer.world_size if self.trainer else 1,
        }

    def _dataloader(
        self, dataset: BatchDataset, sampler: DistributedBatchSampler
    ) -> DataLoader[Batch]:
        # As `sampler`, not `batch_sampler`: the dataset takes a batch at a time, and Lightning
        # tells only a `sampler` of the epoch.
        workers = self.config.num_workers
        return _ReviewLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator() if workers else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that a finished run needs of its data, in plain types; part of its checkpoints."""
        return {
            "config": self.config.model_dump(mode="json"),
            "text_encoder": self.text_encoder.state_dict(),
            "class_names": list(self.class_names),
            "corpus_fingerprint": self.corpus.fingerprint,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a checkpoint's encoder and classes; after `setup`, make sure of them.

        Raises:
            CheckpointError: the checkpoint was trained with another vocabulary or other classes.
        """
        text_encoder = TextEncoder.from_state_dict(state_dict["text_encoder"])
        class_names = tuple(state_dict["class_names"])
        if not self._is_set_up:
            self._text_encoder, self._class_names = text_encoder, class_names
        elif text_encoder.fingerprint != self.text_encoder.fingerprint:
            raise CheckpointError("the checkpoint was trained with another vocabulary")
        elif class_names != self.class_names:
            raise CheckpointError(f"the checkpoint's classes are {', '.join(class_names)}")


class _ReviewLoader(DataLoader[Batch]):
    """A loader that takes one number an epoch from torch's default generator, as DataLoader does.

    With workers DataLoader takes one when it starts them and none later. The dropout masks would
    then depend on the number of workers, and in a resumed training on when it was interrupted.
    """

    def __iter__(self) -> Any:
        if self.num_workers:
            torch.empty((), dtype=torch.int64).random_()
        return super().__iter__()


def _translate(names: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """The index into `known` of each of `names`, int64 [names].

    Raises:
        DataError: one is not known.
    """
    for name in names:
        if name not in known:
            raise DataError(f"label {name!r} is none of the run's: {', '.join(known)}")
    return np.array([known.index(name) for name in names], dtype=np.int64)
