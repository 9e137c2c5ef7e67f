"""The options of eval.py, predict.py, explain.py and export, as their files in conf list them."""

from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, StrictBool, field_validator, model_validator

from rnn_lab.data.config import TextOptions
from rnn_lab.data.readers.config import Column, ReadConfig, read_options
from rnn_lab.data.readers.reading import ReadOptions
from rnn_lab.inference.shards import Shard
from rnn_lab.paths import local_path
from rnn_lab.validation import FilePath, OptionsOf, StrictConfig, Targets, Text

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["32-true", "bf16-mixed"]
OutputFormat = Literal["jsonl", "csv", "parquet"]


class _RunOptions(StrictConfig):
    run: FilePath | list[FilePath]  # several, or a sweep: an ensemble
    plugins: tuple[Text, ...] = ()

    @field_validator("run", mode="before")
    @classmethod
    def _given(cls, run: Any) -> Any:
        if not run or (isinstance(run, list) and not all(run)):
            raise ValueError(
                "give the folder of a finished run, or a .ckpt or .safetensors file: run=<path>"
            )
        return run


class _OneRunOptions(_RunOptions):
    run: FilePath

    @field_validator("run")
    @classmethod
    def _one(cls, run: str) -> str:
        if run[:1] == "[" and run[-1:] == "]" and not local_path(run).exists():
            raise ValueError("give one run; predict.py and eval.py alone combine several")
        return run


class EvaluateOptions(_RunOptions):
    """A finished run, the texts to test it on, and where to write the metrics."""

    device: Device = "auto"
    output_dir: FilePath
    # A source of conf/data; None: the run's own test split.
    data: Annotated[dict[str, Any] | None, OptionsOf(TextOptions)] = None
    batch_size: PositiveInt | None = None  # None: as in the run
    cache_dir: FilePath = "data/cache"
    plots: bool = True
    metrics: Targets = Field(default_factory=dict)


class PredictOptions(_RunOptions, ReadConfig):
    """A finished run and the texts to label: one `text`, or all of `input`."""

    device: Device = "auto"
    text: str | None = None
    input: FilePath | list[FilePath] | None = None
    output: FilePath = "-"
    output_format: OutputFormat | None = None
    shard: Text | None = None
    engine: Literal["local", "ray"] = "local"
    num_workers: PositiveInt | None = None
    one_text_per: Literal["auto", "line", "file"] = "auto"
    keep_columns: StrictBool = True
    id_column: Column | None = None
    top_k: PositiveInt | None = None
    overwrite: StrictBool = False
    batch_size: PositiveInt = 256
    precision: Precision = "32-true"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.text is None) == (self.input is None):
            raise ValueError('give one of text="..." and input=<.txt, .csv, .jsonl, ... or ->')
        return self

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        if self.shard is not None:
            Shard.parse(self.shard)
            if self.input in (None, "-"):
                raise ValueError(f"shard={self.shard}: needs input=<files, a pattern or a folder>")
            if self.engine == "ray":
                raise ValueError(f"shard={self.shard}: engine=ray divides the input itself")
        if self.engine == "ray" and self.input in (None, "-"):
            raise ValueError("engine=ray: needs input=<files, a pattern or a folder>")
        if self.one_text_per == "file" and self.format not in (None, "txt"):
            raise ValueError(f"one_text_per=file: reads plain text; leave out format={self.format}")
        if self.num_workers is not None and self.engine != "ray":
            raise ValueError(f"num_workers={self.num_workers}: only engine=ray has workers")
        return self

    @property
    def inputs(self) -> list[str]:
        """What `input` names, as a list."""
        return [self.input] if isinstance(self.input, str) else list(self.input or ())

    @property
    def is_divided(self) -> bool:
        """Whether each file, or each share of its rows, has an output of its own in a folder."""
        is_shared = self.shard is not None or self.engine != "local"
        return is_shared or self.output_format is not None

    @property
    def any_ending(self) -> bool:
        """Whether all files of a folder are labelled, and not only those of a known ending."""
        return self.format is not None or self.one_text_per == "file"

    def read_options(self, *, whole_files: bool) -> ReadOptions:
        """Return the options that say how `input` is read; of `txt`, perhaps whole files."""
        keeps_all = self.keep_columns and self.id_column is None
        format = "txt" if self.one_text_per == "file" else self.format
        return replace(
            read_options(self), all_columns=keeps_all, format=format, whole_files=whole_files
        )


class ExportOptions(_OneRunOptions):
    """A finished run, and the file to write its network to."""

    output: FilePath = "model.safetensors"
    texts: FilePath | None = None  # a file of texts to compare an .onnx file with the run on
    overwrite: Annotated[bool, Field(strict=False)] = False  # replace the export of another run


class ExplainOptions(_OneRunOptions):
    """A finished run, the text and the label to explain, and the folder for the page."""

    text: str | None = None
    label: str | None = None  # None: the most probable one
    # None: a folder named after the text, under `explain` in the run's folder.
    output: FilePath | None = None
