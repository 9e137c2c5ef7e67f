"""The LightningDataModule: from the options of `data` to the batches of a run."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from rnn_lab.data.class_balance import count_classes, resolve_class_weights
from rnn_lab.data.corpus import Corpus, Split, Task
from rnn_lab.data.duplicates import DuplicateCounts, count_duplicates, leaked_rows, split_hashes
from rnn_lab.data.encode import EncodedSplit, EncodedTexts, encode_corpus, fit_vocabulary
from rnn_lab.data.options import SKIPGRAM, TextOptions
from rnn_lab.data.pseudo_labels import PseudoLabelled, Teacher, pseudo_label
from rnn_lab.data.recipe import resolve_sizes
from rnn_lab.data.samplers import (
    Batch,
    BatchDataset,
    BucketBatchSampler,
    DistributedBatchSampler,
    PairedBatchSampler,
    PairedDataset,
    RepeatedBatches,
    TextDataset,
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
    words_to_count,
)
from rnn_lab.data.word_vectors import WordVectors, extend_by_file, load_word_vectors
from rnn_lab.errors import CheckpointError, ConfigError, DataError
from rnn_lab.validation import AUTO


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
        text_encoder: TextEncoder | None = None,
        class_names: Sequence[str] | None = None,
        task: Task | None = None,
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
            text_encoder: of a finished run, used instead of a new vocabulary.
            class_names: of a finished run: labels become indices into these.
            task: of a finished run: texts of another one are refused.
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
        self._text_encoder = text_encoder
        self._class_names = None if class_names is None else tuple(class_names)
        self._task = task
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
        if self._text_encoder is None and (option := self.config.tokenizer) != AUTO:
            find_tokenizer(option).check_usable(option)
        corpus = load_corpus(self.config, allow_fallback=self._allow_fallback)
        if self._task not in (None, corpus.task):
            raise DataError(_another_task(corpus))
        _refuse_balance(self.config, corpus, use_labels=self.use_labels)
        config = self.config = self.config.resolve(corpus)
        cache_dir = Path(config.cache_dir)
        train_rows, validation_rows = split_validation(corpus, config)
        if self._text_encoder is None:
            if config.drop_duplicates:
                hashes = split_hashes(corpus, cache_dir, train_rows, validation_rows)
                train_rows = train_rows[~leaked_rows(hashes)]
                if not len(train_rows):
                    raise DataError(
                        f"{corpus.name}: every training text also occurs in validation or test; "
                        "with data.drop_duplicates=true none is left"
                    )
            config = self.config = self._resolve_tokenizer(corpus, train_rows)
            vocabulary = self._vocabulary or self._new_vocabulary(
                corpus, (train_rows, validation_rows)
            )
        else:
            vocabulary = self._text_encoder.vocabulary
        splits = encode_corpus(corpus, vocabulary, cache_dir)
        if "validation" not in splits:
            splits["validation"] = splits["train"].take(validation_rows)
        splits["train"] = splits["train"].take(train_rows)
        self._class_names = self._class_names or corpus.class_names
        new_label = _label_indices(corpus.class_names, self._class_names)
        self.splits = {
            name: replace(split, labels=_relabel(split.labels, new_label, len(self._class_names)))
            for name, split in splits.items()
            if len(split)
        }
        self.corpus = corpus
        self._rows = train_rows, validation_rows
        self.pseudo_labelled = self._ask_teacher(vocabulary)
        training = splits["train"]  # also of a language model: sizes decide what it reads
        if self.pseudo_labelled is not None:
            training = self.training_split
        config = self.config = resolve_sizes(config, training.lengths)
        if self._text_encoder is None:
            self._text_encoder = TextEncoder(vocabulary, config.max_length, config.truncation_side)
        self._is_set_up = True

    def _ask_teacher(self, vocabulary: Tokenizer) -> PseudoLabelled | None:
        """Return the texts of data.unlabelled that the teacher has labelled; None: no teacher."""
        if self.teacher is None or (unlabelled := find_unlabelled(self.config)) is None:
            return None
        if self.task != "multiclass":
            raise ConfigError("data.teacher: only where each text has one label")
        return pseudo_label(
            self.teacher,
            unlabelled,
            RunTexts(self.corpus, self.splits["train"], self._rows, vocabulary),
            self.class_names,
            threshold=self.config.teacher_threshold,
            cache_dir=Path(self.config.cache_dir),
        )

    def _resolve_tokenizer(self, corpus: Corpus, rows: np.ndarray) -> TextOptions:
        """Return the options with a tokenizer for each `auto`, that of the base vocabulary."""
        base, config = self._base_vocabulary, self.config
        if config.tokenizer == AUTO and base is not None and not isinstance(base, JsonTokenizer):
            config = config.model_copy(update={"tokenizer": base.name})
        return resolve_tokenizer(config, corpus, rows)

    def _new_vocabulary(self, corpus: Corpus, rows: tuple[np.ndarray, np.ndarray]) -> Tokenizer:
        base, config = self._base_vocabulary, self.config
        learns_from_unlabelled = (
            self._train_unlabelled
            or self.teacher is not None
            or not self.use_labels
            or config.vectors == SKIPGRAM
        )
        more = words_to_count(config, corpus, rows) if learns_from_unlabelled else None
        fitted = fit_vocabulary(corpus, rows[0], config, more)
        fitted = extend_by_file(fitted, config)
        if base is None or base.name != fitted.name:
            return fitted  # `load_initial_weights` refuses another tokenizer
        return base.extended(fitted)

    @cached_property
    def duplicates(self) -> dict[str, dict[str, DuplicateCounts]]:
        """The number of duplicates, see `count_duplicates`."""
        return count_duplicates(split_hashes(self.corpus, Path(self.config.cache_dir), *self._rows))

    @cached_property
    def unlabelled(self) -> EncodedUnlabelled | None:
        """The unlabelled texts of the training batches; None: they have none.

        Raises:
            DataError: the texts of data.unlabelled cannot be read, or all are held out.
        """
        named = find_unlabelled(self.config) if self._train_unlabelled else None
        if named is None:
            return None
        return encode_some_unlabelled(named, self._run_texts, Path(self.config.cache_dir))

    @property
    def unlabelled_fingerprint(self) -> str | None:
        """That of the unlabelled texts which the training batches have; None: they have none."""
        if not self.use_labels:
            return self.pretraining_texts.about.get("unlabelled_fingerprint")
        return None if self.unlabelled is None else self.unlabelled.fingerprint

    @cached_property
    def text_statistics(self) -> dict[str, TextStatistics]:
        """Lengths, unknown tokens and truncation of each split, see `TextStatistics`."""
        longest = self.text_encoder.max_length
        return {name: text_statistics(split, longest) for name, split in self.splits.items()}

    @property
    def text_encoder(self) -> TextEncoder:
        """The tokenizer and vocabulary that turn a text into ids."""
        assert self._text_encoder is not None, "call setup first"
        return self._text_encoder

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        assert self._class_names is not None, "call setup first"
        return self._class_names

    @property
    def task(self) -> Task:
        """Whether a text has one label or any number of them."""
        return self.corpus.task

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return len(self.class_names)

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

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.text_encoder.vocab_size

    def train_dataloader(self) -> DataLoader[Any]:
        """Return batches of texts of similar length, in another order in each epoch.

        Each is a Batch; with `unlabelled` texts, a MixedBatch.
        """
        dataset = self._dataset("train")
        sampler = self._sampler("train", dataset, shuffle=True, **self._replicas())
        sampler.resume_at(*self._start)
        sampler.exclude_batches(self._excluded)
        if self.unlabelled is None:
            return self._dataloader(dataset, sampler)
        others = self._padded(self.unlabelled.texts)
        paired = PairedBatchSampler(sampler, self._unlabelled_sampler(others.lengths))
        return self._dataloader(PairedDataset(dataset, others), paired)

    def num_batches(self, split: str, num_replicas: int = 1) -> int:
        """Return how many batches each of `num_replicas` processes has of a split in an epoch.

        Raises:
            DataError: there is no such split, or it has fewer texts than there are processes.
        """
        dataset, shuffle = self._dataset(split), split == "train"
        return len(self._sampler(split, dataset, shuffle=shuffle, num_replicas=num_replicas))

    def _sampler(
        self, split: str, dataset: BatchDataset, *, shuffle: bool, rank: int = 0, num_replicas: int
    ) -> BucketBatchSampler | TokenBatchSampler:
        """Return the batches of a split: with `shuffle` for training, else the longest first."""
        lengths, config = dataset.lengths, self.config
        replicas: dict[str, Any] = {"rank": rank, "num_replicas": num_replicas}
        if not shuffle:
            return BucketBatchSampler(lengths, config.eval_batch_size, shuffle=False, **replicas)
        labels = self.training_split.labels if config.weighted_sampling else None
        return self._training_sampler(lengths, None, labels=labels, **replicas)

    def _unlabelled_sampler(self, lengths: np.ndarray) -> BucketBatchSampler | TokenBatchSampler:
        size = self.config.unlabelled_batch_size
        return self._training_sampler(lengths, size, labels=None, **self._replicas())

    def _training_sampler(
        self, lengths: np.ndarray, size: int | None, **options: Any
    ) -> BucketBatchSampler | TokenBatchSampler:
        """Return shuffled batches of `size` texts; None: of the size of the labelled ones."""
        config = self.config
        if size is None and config.max_tokens_per_batch is not None:
            most = config.max_tokens_per_batch
            return TokenBatchSampler(lengths, most, seed=self._seed, **options)
        size = config.batch_size if size is None else size
        return BucketBatchSampler(lengths, size, shuffle=True, seed=self._seed, **options)

    def resume_at(self, epoch: int, batch: int) -> None:
        """Start the training batches within an epoch, to resume an interrupted run."""
        self._start = (epoch, batch)

    def exclude_batches(self, batches: frozenset[tuple[int, int]]) -> None:
        """Skip these training batches, each an epoch and a number: see DistributedBatchSampler."""
        self._excluded = batches

    def training_texts(self, rows: Sequence[int]) -> list[tuple[str, str]]:
        """Return name and text of examples of `training_split`, by their positions in it."""
        train, labelled = self.corpus.train, len(self.splits["train"])
        found: dict[int, tuple[str, str]] = {}
        for row in rows:
            if row < labelled:
                place = int(self._rows[0][row])
                found[row] = train.names[place], train.texts[place]
        if (others := self.pseudo_labelled) is not None and len(found) < len(set(rows)):
            wanted = {int(others.rows[row - labelled]): row for row in rows if row >= labelled}
            texts = words_to_count(self.config, self.corpus, self._rows) or ()
            for place, text in enumerate(texts):
                if place in wanted:
                    found[wanted[place]] = f"data.unlabelled:{place + 1}", text
        return [found[row] for row in rows]

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
            source = self.corpus.train.take(self._rows[0 if split == "train" else 1])
        return source

    def word_vectors(self, dim: int) -> WordVectors:
        """Return the vectors of data.vectors for the vocabulary, of size `dim`.

        Raises:
            ConfigError, DataError: they cannot be learned or read, see `load_word_vectors`.
        """
        return load_word_vectors(self.config, self._run_texts, dim)

    @cached_property
    def pretraining_texts(self) -> PretrainingTexts:
        """The training texts and those of data.unlabelled, see `pretraining_texts`."""
        return pretraining_texts(self.config, self._run_texts)

    @property
    def training_split(self) -> EncodedSplit:
        """The texts of the training batches: the training split, and others that a run reads."""
        if not self.use_labels:
            return self.pretraining_texts.split
        split = self.splits["train"]
        return split if self.pseudo_labelled is None else self.pseudo_labelled.after(split)

    @property
    def _run_texts(self) -> RunTexts:
        vocabulary = self.text_encoder.vocabulary
        return RunTexts(self.corpus, self.splits["train"], self._rows, vocabulary)

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
        sampler = self._sampler(split, dataset, shuffle=False, **self._replicas())
        return self._dataloader(dataset, sampler)

    def sample_evenly(self, split: str, count: int) -> Batch:
        """Return `count` texts of a split (or all, if there are fewer), always the same ones.

        Raises:
            DataError: there is no such split.
        """
        dataset = self._dataset(split)
        rows = np.linspace(0, len(dataset) - 1, min(count, len(dataset)))
        return dataset[rows.round().astype(np.int64)]

    def _dataset(self, name: str) -> BatchDataset:
        if name not in self.splits:
            raise DataError(
                f"{self.corpus.name}: has no split {name}; choose from: {', '.join(self.splits)}"
            )
        split = self.training_split if name == "train" else self.splits[name]
        return BatchDataset(split, **self._truncation())

    def _padded(self, texts: EncodedTexts) -> TextDataset:
        return TextDataset(texts, **self._truncation())

    def _truncation(self) -> dict[str, Any]:
        encoder = self.text_encoder
        return {"max_length": encoder.max_length, "truncation_side": encoder.truncation_side}

    def _replicas(self) -> dict[str, Any]:
        """The rank of this process among those that share each batch."""
        return {
            "rank": self.trainer.global_rank if self.trainer else 0,
            "num_replicas": self.trainer.world_size if self.trainer else 1,
        }

    def _dataloader(
        self,
        dataset: BatchDataset | PairedDataset,
        sampler: DistributedBatchSampler | PairedBatchSampler,
    ) -> DataLoader[Any]:
        # As `sampler`, not `batch_sampler`: the dataset returns a whole batch, and Lightning calls
        # `set_epoch` of a `sampler` only.
        overfits = self.trainer is not None and self.trainer.overfit_batches  # type: ignore[attr-defined]
        workers = self.config.num_workers
        return _ReproducibleLoader(
            dataset,
            batch_size=None,
            sampler=RepeatedBatches(sampler) if overfits else sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator() if workers else None,
        )

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
            self._text_encoder, self._class_names = text_encoder, class_names
        elif text_encoder.fingerprint != self.text_encoder.fingerprint:
            raise CheckpointError("the checkpoint was trained with another vocabulary")
        elif class_names != self.class_names:
            raise CheckpointError(f"the checkpoint's classes are {', '.join(class_names)}")


class _ReproducibleLoader(DataLoader[Any]):
    """Draw one number per epoch from torch's default generator, with and without workers.

    DataLoader without workers draws one per epoch; with workers it draws one when it starts them
    and none later. The dropout masks would then depend on the number of workers, and in a resumed
    run on the time of the interruption.
    """

    def __iter__(self) -> Any:
        if self.num_workers:
            torch.empty((), dtype=torch.int64).random_()
        return super().__iter__()


def _relabel(labels: np.ndarray, new_label: np.ndarray, classes: int) -> np.ndarray:
    """Return labels by the indices of other `classes`: those of class i become new_label[i]."""
    if labels.ndim == 1:
        return new_label[labels]
    found = np.zeros((len(labels), classes), dtype=np.uint8)
    found[:, new_label] = labels
    return found


def _refuse_balance(config: TextOptions, corpus: Corpus, *, use_labels: bool) -> None:
    """Raise a ConfigError for weights of classes where a text has not one label."""
    options = {
        "class_weights": config.class_weights is not None,
        "weighted_sampling": config.weighted_sampling,
    }
    option = next(filter(options.get, options), None)
    if option is not None and not use_labels:
        raise ConfigError(f"data.{option}: is for classes, and a language model has none")
    if option is not None and corpus.task == "multilabel":
        raise ConfigError(
            f"data.{option}: is for one label a text, and the texts have any number of labels; "
            "their thresholds fit rare labels"
        )


def _another_task(corpus: Corpus) -> str:
    if corpus.task == "multilabel":
        return f"{corpus.name}: the texts have any number of labels, and the run predicts one each"
    return (
        f"{corpus.name}: the texts have one label each, and the run predicts any number; set "
        "data.label_separator, or data.label_column=[...] for columns of 0 and 1"
    )


def _label_indices(names: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Return the index into `known` of each of `names`, int64 [names].

    Raises:
        DataError: a name is not known.
    """
    for name in names:
        if name not in known:
            raise DataError(
                f"unknown label {name!r}; the classes of the run are: {', '.join(known)}"
            )
    return np.array([known.index(name) for name in names], dtype=np.int64)
