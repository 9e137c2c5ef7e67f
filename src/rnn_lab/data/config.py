"""The `data` options: what conf/data and the `data` block of conf/train.yaml may hold."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rnn_lab.data.bpe import SMALLEST_VOCABULARY
from rnn_lab.validation import StrictConfig

Fraction = Annotated[float, Field(gt=0, lt=1)]


class TextOptions(StrictConfig):
    """How text becomes batches, whatever the source."""

    tokenizer: Literal["basic_english", "torchtext", "bpe"] = "basic_english"
    max_vocab_size: Annotated[int, Field(ge=3)] | None = 30_000
    min_freq: PositiveInt = 1
    max_length: PositiveInt = 400
    truncation_side: Literal["left", "right"] = "left"
    val_fraction: Fraction = 0.1
    split_seed: int = 0
    drop_duplicates: bool = False
    batch_size: PositiveInt = 64
    max_tokens_per_batch: PositiveInt | None = None
    eval_batch_size: PositiveInt = 256
    num_workers: Annotated[int, Field(ge=0)] = 0
    cache_dir: str = "data/cache"

    @field_validator("max_vocab_size")
    @classmethod
    def _holds_every_byte(cls, max_vocab_size: int | None, options: ValidationInfo) -> int | None:
        smallest = SMALLEST_VOCABULARY
        if options.data.get("tokenizer") == "bpe" and (
            max_vocab_size is None or max_vocab_size < smallest
        ):
            raise ValueError(f"tokenizer=bpe needs a number, {smallest} or more")
        return max_vocab_size

    @field_validator("max_tokens_per_batch")
    @classmethod
    def _holds_the_longest(
        cls, max_tokens_per_batch: int | None, options: ValidationInfo
    ) -> int | None:
        longest = options.data.get("max_length")
        if (
            max_tokens_per_batch is not None
            and longest is not None
            and max_tokens_per_batch < longest
        ):
            raise ValueError(f"at least data.max_length, {longest}: a batch holds a whole review")
        return max_tokens_per_batch


class ImdbConfig(TextOptions):
    """The Large Movie Review Dataset (Maas et al. 2011)."""

    source: Literal["imdb"] = "imdb"
    root: str | None = None
    download: bool = True
    url: str = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
    validation: Literal["by_film", "random"] = "by_film"

    @field_validator("url")
    @classmethod
    def _no_password(cls, url: str) -> str:
        if "@" in urlsplit(url).netloc:
            raise PydanticCustomError("secret", "holds a user or password, which would be kept")
        return url


class DemoConfig(TextOptions):
    """Synthetic reviews, the same on every machine for one `data_seed`."""

    source: Literal["demo"] = "demo"
    num_train: Annotated[int, Field(ge=20, le=1_000_000)] = 20_000
    num_test: Annotated[int, Field(ge=20, le=1_000_000)] = 5_000
    data_seed: int = 0
    validation: Literal["stratified", "random"] = "stratified"


class LongRangeConfig(TextOptions):
    """Synthetic texts whose label is their first word, `distance` words before the last."""

    source: Literal["long_range"] = "long_range"
    distance: Annotated[int, Field(ge=5)] = 100
    num_train: Annotated[int, Field(ge=20, le=10_000)] = 2_000
    num_test: Annotated[int, Field(ge=20, le=10_000)] = 1_000
    data_seed: int = 0
    validation: Literal["stratified", "random"] = "stratified"
    max_length: PositiveInt = 10_001

    @model_validator(mode="after")
    def _signal_is_read(self) -> Self:
        if self.max_length <= self.distance:
            raise ValueError(
                f"data.max_length={self.max_length}: the signal word would be cut off; "
                f"data.distance={self.distance} needs {self.distance + 1} or more"
            )
        return self


class AutoConfig(ImdbConfig):
    """IMDB where it is on disk or can be fetched; otherwise the demo reviews, announced."""

    source: Literal["auto"] = "auto"  # type: ignore[assignment]

    def imdb(self) -> ImdbConfig:
        """The same options, for the IMDB reviews."""
        return ImdbConfig(**self.model_dump(exclude={"source"}))

    def demo(self) -> DemoConfig:
        """The shared options, for the demo reviews."""
        return DemoConfig(**self.model_dump(include=set(TextOptions.model_fields)))


class FilesConfig(TextOptions):
    """The user's own labelled texts: CSV, TSV, JSONL, or one folder a class."""

    source: Literal["files"] = "files"
    train: str | None = None
    validation: str = "stratified"
    test: str | None = None
    test_fraction: Fraction = 0.2
    text_column: str | None = None
    label_column: str | None = None
    class_names: list[str] | None = None
    encoding: str = "utf-8"
    on_bad_lines: Literal["error", "skip"] = "error"


DataConfig = Annotated[
    AutoConfig | ImdbConfig | DemoConfig | LongRangeConfig | FilesConfig,
    Field(discriminator="source"),
]
