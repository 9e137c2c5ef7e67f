"""The LightningDataModule: from the options of `data` to the batches of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from rnn_lab.data.batches import Batch, BatchDataset, PairedDataset, ReproducibleLoader, TextDataset
from rnn_lab.data.class_balance import check_balance, count_classes, resolve_class_weights
from rnn_lab.data.corpus import Corpus, Split, Task, check_task, relabel
from rnn_lab.data.duplicates import DuplicateCounts, count_duplicates, leaked_rows, split_hashes
from rnn_lab.data.encode import EncodedSplit, encode_corpus, fit_vocabulary
from rnn_lab.data.options import SKIPGRAM, TextOptions
from rnn_lab.data.pseudo_labels import PseudoLabelled, Teacher, pseudo_label
from rnn_lab.data.recipe import resolve_sizes
from rnn_lab.data.samplers import (
    BucketBatchSampler,
    DistributedBatchSampler,
    PairedBatchSampler,
    RepeatedBatches,
    Replica,
    SamplerOptions,
    TokenBatchSampler,
)
from rnn_lab.data.sources.registry import load_corpus
from rnn_lab.data.splits import split_validation
from rnn_lab.data.statistics import TextStatistics, text_statistics
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.tokenizer_base import Tokenizer, find_tokenizer
from rnn_lab.data.tokenizer_choice import resolve_tokenizer
from rnn_lab.data.tokenizer_json import JsonTokenizer
from rnn_lab.data.unlabelled import (
    EncodedUnlabelled,
    PretrainingTexts,
    RunTexts,
    encode_some_unlabelled,
    find_unlabelled,
    pretraining_texts,
    read_unlabelled,
    unlabelled_not_held_out,
)
from rnn_lab.data.word_vectors import WordVectors, extend_by_file, load_word_vectors
from rnn_lab.errors import CheckpointError, ConfigError, DataError
from rnn_lab.iteration import pick_evenly
from rnn_lab.validation import AUTO


@dataclass(frozen=True)
class RunEncoding:
    """How a run turns texts into ids, and labels into indices."""

    text_encoder: TextEncoder
    class_names: tuple[str, ...]  # the name of each label
    task: Task | None = None  # None: that of the texts


class TextDataModule(L.LightningDataModule):
    """The texts of one corpus as batches.

    `setup` sets `corpus`, `text_encoder`, `class_names`, `pseudo_labelled` and `splits` (the
    non-empty ones of "train", "validation" and "test"). Use it with
    `Trainer(use_distributed_sampler=False)`: its samplers divide the batches among the ranks
    themselves.
    """

    corpus: Corpus
    splits: dict[str, EncodedSplit]
    pseudo_labelled: PseudoLabelled | None  # training texts beside those of the split

    def __init__(
        self,
        config: TextOptions,
        *,
        seed: int = 0,
        allow_fallback: bool = False,
        encoding: RunEncoding | None = None,
        vocabulary: Tokenizer | None = None,
        base_vocabulary: Tokenizer | None = None,
        use_labels: bool = True,
        train_unlabelled: bool = False,
        teacher: Teacher | None = None,
    ) -> None:
        """Store the arguments; `setup` loads the texts.

        Args:
            config: the validated options of a data source.
            seed: of the order of the training batches, which depends on nothing else.
            allow_fallback: use the demo reviews if `data=auto` finds no IMDB.
            encoding: of a finished run, used instead of a new one; texts of another task are
                refused.
            vocabulary: of a run that resumes, used instead of a new one.
            base_vocabulary: of the run that the network starts from: the new one begins with it.
            use_labels: False: the training batches are those of `pretraining_texts`.
            train_unlabelled: let training batches have texts of data.unlabelled, if it names any.
            teacher: labels the texts of data.unlabelled, of which sure ones are training texts.
        """
        super().__init__()
        self.config = config
        self._seed = seed
        self._allow_fallback = allow_fallback
        self._encoding = encoding
        self._vocabulary, self._base_vocabulary = vocabulary, base_vocabulary
        self.use_labels = use_labels
        self._train_unlabelled = train_unlabelled
        self.teacher = teacher
        self._is_set_up = False
        self._start = (0, 0)
        self._excluded: frozenset[tuple[int, int]] = frozenset()

    def prepare_data(self) -> None:
        """Download, tokenize and encode the texts into the cache, unless the cache has them."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Map the encoded texts of all splits into memory, at any `stage`.

        Raises:
            DataError: the texts are missing, malformed or not of the expected classes, or the
                teacher is sure of none.
            ConfigError: the tokenizer cannot be used, see `fit_vocabulary`, or the teacher has
                other classes.
        """
        if self._is_set_up:
            return
        corpus = self.corpus = self._load_corpus()
        rows = self._choose_rows(corpus)
        vocabulary = self._find_vocabulary(corpus, rows)
        class_names = corpus.class_names if self._encoding is None else self._encoding.class_names
        splits = encode_corpus(corpus, vocabulary, Path(self.config.cache_dir))
        splits.setdefault("validation", splits["train"].take(rows[1]))
        splits["train"] = splits["train"].take(rows[0])
        for name, split in splits.items():
            labels = relabel(split.labels, corpus.class_names, class_names)
            splits[name] = replace(split, labels=labels)
        self.splits = {name: split for name, split in splits.items() if len(split)}
        self._texts = RunTexts(corpus, splits["train"], rows, vocabulary)
        self.pseudo_labelled = self._ask_teacher(class_names)
        # Also of a language model: the sizes decide what it reads.
        config = self.config = resolve_sizes(self.config, self._labelled.lengths)
        if self._encoding is None:
            text_encoder = TextEncoder(vocabulary, config.max_length, config.truncation_side)
            self._encoding = RunEncoding(text_encoder, class_names, corpus.task)
        self._is_set_up = True

    def _load_corpus(self) -> Corpus:
        """Load the texts; resolve the options that depend on their source alone."""
        if self._encoding is None and (option := self.config.tokenizer) != AUTO:
            find_tokenizer(option).check_usable(option)
        corpus = load_corpus(self.config, allow_fallback=self._allow_fallback)
        if self._encoding is None and not len(corpus.train):
            raise DataError(f"{corpus.name}: has no training texts")
        if self._encoding is not None and self._encoding.task is not None:
            check_task(corpus, self._encoding.task)
        check_balance(self.config, corpus, use_labels=self.use_labels)
        self.config = self.config.resolve(corpus)
        return corpus

    def _choose_rows(self, corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
        """Return which rows of `corpus.train` are for training and which for validation."""
        train_rows, validation_rows = split_validation(corpus, self.config)
        if self._encoding is None and self.config.drop_duplicates:
            cache_dir = Path(self.config.cache_dir)
            hashes = split_hashes(corpus, cache_dir, train_rows, validation_rows)
            train_rows = train_rows[~leaked_rows(hashes)]
            if not len(train_rows):
                raise DataError(
                    f"{corpus.name}: every training text also occurs in validation or test; "
                    "with data.drop_duplicates=true none is left"
                )
        return train_rows, validation_rows

    def _find_vocabulary(self, corpus: Corpus, rows: tuple[np.ndarray, np.ndarray]) -> Tokenizer:
        """Return the vocabulary of an earlier run, or a new one; resolve data.tokenizer."""
        if self._encoding is not None:
            return self._encoding.text_encoder.vocabulary
        known, config = self._vocabulary or self._base_vocabulary, self.config
        if config.tokenizer == AUTO and known is not None and not isinstance(known, JsonTokenizer):
            config = config.model_copy(update={"tokenizer": known.name})
        self.config = resolve_tokenizer(config, corpus, rows[0])
        return self._vocabulary or self._new_vocabulary(corpus, rows)

    def _new_vocabulary(self, corpus: Corpus, rows: tuple[np.ndarray, np.ndarray]) -> Tokenizer:
        base, config = self._base_vocabulary, self.config
        learns_from_unlabelled = (
            self._train_unlabelled
            or self.teacher is not None
            or not self.use_labels
            or config.vectors == SKIPGRAM
        )
        more = unlabelled_not_held_out(config, corpus, rows) if learns_from_unlabelled else None
        fitted = fit_vocabulary(corpus, rows[0], config, more)
        fitted = extend_by_file(fitted, config)
        if base is None or base.name != fitted.name:
            return fitted  # `load_initial_weights` refuses another tokenizer
        return base.extended(fitted)

    def _ask_teacher(self, class_names: tuple[str, ...]) -> PseudoLabelled | None:
        """Return the texts of data.unlabelled that the teacher has labelled; None: no teacher."""
        if self.teacher is None or (unlabelled := find_unlabelled(self.config)) is None:
            return None
        if self.is_multilabel:
            raise ConfigError(
                "data.teacher: these texts have any number of labels each; a teacher predicts one "
                "label a text"
            )
        return pseudo_label(
            self.teacher,
            unlabelled,
            self._texts,
            class_names,
            threshold=self.config.teacher_threshold,
            cache_dir=Path(self.config.cache_dir),
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return batches of texts of similar length, in another order in each epoch.

        Each is a Batch; with `unlabelled` texts, a MixedBatch.
        """
        dataset = self._dataset("train")
        sampler = self._training_sampler(dataset, self._replica)
        sampler.resume_at(*self._start)
        sampler.exclude_batches(self._excluded)
        if self.unlabelled is None:
            return self._dataloader(dataset, sampler)
        others = TextDataset(self.unlabelled.texts, **self._truncation())
        size = self.config.unlabelled_batch_size
        paired = PairedBatchSampler(
            sampler, self._shuffled(others.lengths, self._replica, batch_size=size)
        )
        return self._dataloader(PairedDataset(dataset, others), paired)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation texts, the longest first."""
        return self.dataloader_for("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test texts, the longest first."""
        return self.dataloader_for("test")

    def dataloader_for(self, split: str) -> DataLoader[Batch]:
        """Return every text of a split once, the longest first.

        Raises:
            DataError: there is no such split.
        """
        dataset = self._dataset(split)
        return self._dataloader(dataset, self._longest_first(dataset, self._replica))

    def num_batches(self, split: str, num_replicas: int = 1) -> int:
        """Return how many batches each of `num_replicas` processes has of a split in an epoch.

        Raises:
            DataError: there is no such split, or it has fewer texts than there are processes.
        """
        dataset, replica = self._dataset(split), Replica(world_size=num_replicas)
        if split == "train":
            return len(self._training_sampler(dataset, replica))
        return len(self._longest_first(dataset, replica))

    def sample_evenly(self, split: str, count: int) -> Batch:
        """Return `count` texts of a split (or all, if there are fewer), always the same ones.

        Raises:
            DataError: there is no such split.
        """
        dataset = self._dataset(split)
        return dataset[pick_evenly(len(dataset), count)]

    def resume_at(self, epoch: int, batch: int) -> None:
        """Start the training batches within an epoch, to resume an interrupted run."""
        self._start = (epoch, batch)

    def exclude_batches(self, batches: frozenset[tuple[int, int]]) -> None:
        """Skip these training batches, each an epoch and a number: see DistributedBatchSampler."""
        self._excluded = batches

    def _training_sampler(self, dataset: BatchDataset, replica: Replica) -> DistributedBatchSampler:
        labels = self.training_split.labels if self.config.weighted_sampling else None
        return self._shuffled(dataset.lengths, replica, labels=labels)

    def _shuffled(
        self,
        lengths: np.ndarray,
        replica: Replica,
        *,
        labels: np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> DistributedBatchSampler:
        """Return shuffled batches of `batch_size` texts; None: of the size of labelled ones."""
        config = self.config
        options: SamplerOptions = {"labels": labels, "seed": self._seed, "replica": replica}
        if batch_size is None and config.max_tokens_per_batch is not None:
            return TokenBatchSampler(lengths, config.max_tokens_per_batch, **options)
        return BucketBatchSampler(lengths, batch_size or config.batch_size, shuffle=True, **options)

    def _longest_first(self, dataset: BatchDataset, replica: Replica) -> DistributedBatchSampler:
        size = self.config.eval_batch_size
        return BucketBatchSampler(dataset.lengths, size, shuffle=False, replica=replica)

    def _dataloader(
        self,
        dataset: BatchDataset | PairedDataset,
        sampler: DistributedBatchSampler | PairedBatchSampler,
    ) -> DataLoader[Any]:
        # As `sampler`, not `batch_sampler`: the dataset returns a whole batch, and Lightning calls
        # `set_epoch` of a `sampler` only.
        overfits = self.trainer is not None and self.trainer.overfit_batches  # type: ignore[attr-defined]
        workers = self.config.num_workers
        return ReproducibleLoader(
            dataset,
            batch_size=None,
            sampler=RepeatedBatches(sampler) if overfits else sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator() if workers else None,
        )

    def _dataset(self, name: str) -> BatchDataset:
        if name not in self.splits:
            raise DataError(
                f"{self.corpus.name}: has no split {name}; choose from: {', '.join(self.splits)}"
            )
        split = self.training_split if name == "train" else self.splits[name]
        return BatchDataset(split, **self._truncation())

    def _truncation(self) -> dict[str, Any]:
        encoder = self.text_encoder
        return {"max_length": encoder.max_length, "truncation_side": encoder.truncation_side}

    @property
    def _replica(self) -> Replica:
        """This process among those that share each batch."""
        if self.trainer is None:
            return Replica()
        return Replica(self.trainer.global_rank, self.trainer.world_size)

    @property
    def text_encoder(self) -> TextEncoder:
        """The tokenizer and vocabulary that turn a text into ids."""
        assert self._encoding is not None, "call setup first"
        return self._encoding.text_encoder

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        assert self._encoding is not None, "call setup first"
        return self._encoding.class_names

    @property
    def task(self) -> Task:
        """Whether a text has one label or any number of them."""
        return self.corpus.task

    @property
    def is_multilabel(self) -> bool:
        """Whether a text has any number of labels, not one."""
        return self.corpus.is_multilabel

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return len(self.class_names)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.text_encoder.vocab_size

    @property
    def training_split(self) -> EncodedSplit:
        """The texts of the training batches: the training split, and others that a run reads."""
        return self._labelled if self.use_labels else self.pretraining_texts.split

    @property
    def _labelled(self) -> EncodedSplit:
        """The training split, and after it the texts that the teacher has labelled."""
        train = self._texts.train
        return train if self.pseudo_labelled is None else self.pseudo_labelled.after(train)

    @property
    def class_counts(self) -> np.ndarray:
        """Number of training texts of each class, int64 [classes]."""
        return count_classes(self.splits["train"].labels, self.num_classes)

    @property
    def class_weights(self) -> np.ndarray | None:
        """What data.class_weights is for the training texts, see `resolve_class_weights`.

        Raises:
            ConfigError: it has not one weight for each class.
        """
        labels = self.training_split.labels
        return resolve_class_weights(self.config.class_weights, labels, self.class_names)

    @cached_property
    def unlabelled(self) -> EncodedUnlabelled | None:
        """The unlabelled texts of the training batches; None: they have none.

        Raises:
            DataError: the texts of data.unlabelled cannot be read, or all are held out.
        """
        named = find_unlabelled(self.config) if self._train_unlabelled else None
        if named is None:
            return None
        return encode_some_unlabelled(named, self._texts, Path(self.config.cache_dir))

    @property
    def unlabelled_fingerprint(self) -> str | None:
        """That of the unlabelled texts which the training batches have; None: they have none."""
        if not self.use_labels:
            return self.pretraining_texts.about.get("unlabelled_fingerprint")
        return None if self.unlabelled is None else self.unlabelled.fingerprint

    @cached_property
    def pretraining_texts(self) -> PretrainingTexts:
        """The training texts and those of data.unlabelled, see `pretraining_texts`."""
        return pretraining_texts(self.config, self._texts)

    def word_vectors(self, dim: int) -> WordVectors:
        """Return the vectors of data.vectors for the vocabulary, of size `dim`.

        Raises:
            ConfigError, DataError: they cannot be learned or read, see `load_word_vectors`.
        """
        return load_word_vectors(self.config, self._texts, dim)

    @cached_property
    def duplicates(self) -> dict[str, dict[str, DuplicateCounts]]:
        """The number of duplicates, see `count_duplicates`."""
        cache_dir = Path(self.config.cache_dir)
        return count_duplicates(split_hashes(self.corpus, cache_dir, *self._texts.rows))

    @cached_property
    def text_statistics(self) -> dict[str, TextStatistics]:
        """Lengths, unknown tokens and truncation of each split, see `TextStatistics`."""
        longest = self.text_encoder.max_length
        return {name: text_statistics(split, longest) for name, split in self.splits.items()}

    def texts_of(self, split: str) -> tuple[Sequence[str], np.ndarray]:
        """Return the texts of a split and their labels, as in EncodedSplit.

        Raises:
            DataError: there is no such split.
        """
        return self.examples_of(split).texts, self.splits[split].labels

    def examples_of(self, split: str) -> Split:
        """Return the examples of a split as the corpus has them.

        Raises:
            DataError: there is no such split.
        """
        self._dataset(split)  # the same error for an unknown split
        source = self.corpus.splits.get(split)
        if split == "train" or source is None:  # validation that was split off
            source = self.corpus.train.take(self._texts.rows[0 if split == "train" else 1])
        return source

    def training_texts(self, rows: Sequence[int]) -> list[tuple[str, str]]:
        """Return name and text of examples of `training_split`, by their positions in it."""
        train, texts = self.corpus.train, self._texts
        labelled = len(texts.train)
        found: dict[int, tuple[str, str]] = {}
        for row in rows:
            if row < labelled:
                place = int(texts.rows[0][row])
                found[row] = train.names[place], train.texts[place]
        if self.pseudo_labelled is not None:
            places = self.pseudo_labelled.rows
            wanted = {row: int(places[row - labelled]) for row in rows if row >= labelled}
            unlabelled = read_unlabelled(self.config, texts, set(wanted.values()))
            found |= {row: unlabelled[place] for row, place in wanted.items()}
        return [found[row] for row in rows]

    def state_dict(self) -> dict[str, Any]:
        """Return what prediction and testing need, in plain types; checkpoints contain it."""
        return {
            "config": self.config.model_dump(mode="json"),
            "text_encoder": self.text_encoder.state_dict(),
            "class_names": list(self.class_names),
            "corpus_fingerprint": self.corpus.fingerprint,
            "source_info": dict(self.corpus.source_info),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Use the encoder and classes of a checkpoint; after `setup`, check that they are equal.

        Raises:
            CheckpointError: the checkpoint was trained with another vocabulary or other classes.
        """
        text_encoder = TextEncoder.from_state_dict(state_dict["text_encoder"])
        class_names = tuple(state_dict["class_names"])
        if not self._is_set_up:
            self._encoding = RunEncoding(text_encoder, class_names)
        elif text_encoder.fingerprint != self.text_encoder.fingerprint:
            raise CheckpointError("the checkpoint was trained with another vocabulary")
        elif class_names != self.class_names:
            raise CheckpointError(f"the checkpoint's classes are {', '.join(class_names)}")
