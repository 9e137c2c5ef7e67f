"""The options that every data source has. A source adds its own in a subclass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    StrictBool,
    ValidationInfo,
    field_validator,
)

from rnn_lab.data.readers.config import Column
from rnn_lab.data.tokenizer_base import find_tokenizer
from rnn_lab.data.vector_files import is_vector_file
from rnn_lab.validation import AUTO, FilePath, OrAuto, StrictConfig

if TYPE_CHECKING:
    from rnn_lab.data.corpus import Corpus, UnlabelledTexts

Fraction = Annotated[float, Field(gt=0, lt=1)]

SKIPGRAM = "skipgram"  # data.vectors: learned from the texts of the run


def _check_class_weights(weights: Any) -> Any:
    is_list = isinstance(weights, list | tuple)
    if weights is None or weights == "balanced" or (is_list and all(map(_is_positive, weights))):
        return weights
    raise ValueError("give balanced, or a list of positive numbers, one for each class in order")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


ClassWeights = Annotated[
    Literal["balanced"] | tuple[float, ...] | None, BeforeValidator(_check_class_weights)
]


def _check_tokenizer(tokenizer: str) -> str:
    # By its form alone: an untrusted checkpoint has this option too.
    if tokenizer != AUTO:
        find_tokenizer(tokenizer)
    return tokenizer


def _check_vectors(vectors: str | None) -> str | None:
    # By its form alone: an untrusted checkpoint has this option too.
    if vectors not in (None, SKIPGRAM) and not is_vector_file(str(vectors)):
        raise ValueError(
            f"impossible value. Choose from: null, {SKIPGRAM}, or the path of a .vec, .txt or .bin "
            "file of word vectors"
        )
    return vectors


class TextOptions(StrictConfig):
    """How texts become batches. conf/train.yaml explains each option."""

    # Whether every `auto` of a run, of any group, is chosen for the size of the texts. A source
    # that sets this to False has the recipe of IMDB, so that published metrics stay comparable.
    fits_size: ClassVar[bool] = True
    # Whether the source has unlabelled texts of its own, for data.unlabelled=true.
    has_unlabelled: ClassVar[bool] = False

    source: str
    tokenizer: Annotated[FilePath, AfterValidator(_check_tokenizer)] = AUTO
    max_vocab_size: Annotated[int, Field(ge=3), OrAuto()] | None = AUTO
    min_freq: PositiveInt = 1
    max_length: Annotated[PositiveInt, OrAuto()] = AUTO
    truncation_side: Annotated[Literal["left", "middle", "right"], OrAuto()] = AUTO
    val_split: Literal["by_film", "by_group", "random", "stratified"] = "stratified"
    train_size: Annotated[int, Field(ge=2)] | None = None
    val_fraction: Fraction = 0.1
    split_seed: int = 0
    drop_duplicates: bool = False
    class_weights: ClassWeights = None
    weighted_sampling: bool = False
    batch_size: Annotated[PositiveInt, OrAuto()] = AUTO
    max_tokens_per_batch: PositiveInt | None = None
    eval_batch_size: PositiveInt = 256
    num_workers: Annotated[int, Field(ge=0)] = 0
    vectors: Annotated[FilePath | None, AfterValidator(_check_vectors)] = None
    vectors_epochs: PositiveInt = 4
    vectors_window: PositiveInt = 8
    unlabelled: StrictBool | FilePath | list[FilePath] | None = None
    unlabelled_text_column: Column | list[Column] | None = None
    unlabelled_batch_size: PositiveInt | None = None
    teacher: FilePath | list[FilePath] | None = None
    teacher_threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    cache_dir: FilePath = "data/cache"

    @field_validator("max_vocab_size")
    @classmethod
    def _suits_tokenizer(cls, max_vocab_size: Any, options: ValidationInfo) -> Any:
        tokenizer = options.data.get("tokenizer", AUTO)  # without one, it is refused already
        if AUTO not in (tokenizer, max_vocab_size):
            try:
                find_tokenizer(tokenizer).check_vocab_size(max_vocab_size)
            except ValueError as error:
                raise ValueError(f"data.tokenizer={tokenizer} {error}") from None
        return max_vocab_size

    @field_validator("max_tokens_per_batch")
    @classmethod
    def _holds_the_longest(
        cls, max_tokens_per_batch: int | None, options: ValidationInfo
    ) -> int | None:
        longest = options.data.get("max_length")
        if (
            max_tokens_per_batch is not None
            and longest not in (None, AUTO)
            and max_tokens_per_batch < longest
        ):
            raise ValueError(
                f"must be at least data.max_length={longest}, so that a batch holds a whole text"
            )
        return max_tokens_per_batch

    @field_validator("weighted_sampling")
    @classmethod
    def _balances_once(cls, weighted_sampling: bool, options: ValidationInfo) -> bool:
        if weighted_sampling and options.data.get("class_weights") == "balanced":
            raise ValueError(
                "data.class_weights=balanced corrects the same imbalance; choose one of the two"
            )
        return weighted_sampling

    @field_validator("unlabelled")
    @classmethod
    def _unlabelled_exists(cls, unlabelled: Any) -> Any:
        if unlabelled is None or unlabelled is False:
            return None
        if unlabelled is True and not cls.has_unlabelled:
            raise ValueError("only data=imdb has unlabelled texts; give a file or a list of files")
        if unlabelled in ([], ""):
            raise ValueError("give a file or a list of files")
        return unlabelled

    @field_validator("unlabelled_text_column")
    @classmethod
    def _has_unlabelled_files(cls, column: Any, options: ValidationInfo) -> Any:
        if column is not None and options.data.get("unlabelled", "") in (None, True):
            raise ValueError("is a column of the files of data.unlabelled, which has none")
        return column

    @field_validator("unlabelled_batch_size")
    @classmethod
    def _has_unlabelled_texts(cls, size: int | None, options: ValidationInfo) -> int | None:
        if size is not None and options.data.get("unlabelled", True) is None:
            raise ValueError("is the size of batches of data.unlabelled, which is null")
        return size

    @field_validator("teacher")
    @classmethod
    def _has_texts_to_label(cls, teacher: Any, options: ValidationInfo) -> Any:
        if teacher == []:
            raise ValueError("give a finished run or a list of them")
        if teacher is not None and options.data.get("unlabelled", True) is None:
            raise ValueError("labels the texts of data.unlabelled, which is null")
        return teacher

    def own_unlabelled(self) -> UnlabelledTexts:
        """Return the texts of data.unlabelled=true, for a source that `has_unlabelled`."""
        raise NotImplementedError

    def fallback(self) -> TextOptions | None:
        """Return the options of a source to use where this one finds no data; None: none."""
        return None

    def resolve(self, corpus: Corpus) -> TextOptions:
        """Return the options that name what was loaded, for a source that stands for others."""
        return self


# Options that carry over from one source to another. `val_split` has choices of each source, and
# so has `unlabelled`, with the size of its batches and what labels its texts; `train_size` is a
# number of texts of one of them.
SHARED_OPTIONS = frozenset(TextOptions.model_fields) - {
    *("source", "val_split", "unlabelled", "unlabelled_text_column", "unlabelled_batch_size"),
    *("train_size", "teacher", "teacher_threshold"),
}
