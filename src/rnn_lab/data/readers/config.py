"""The options that say how a file is read, of data=files and of predict.py."""

from typing import Annotated, Literal

from pydantic import AfterValidator, StrictBool, StrictInt

from rnn_lab.data.readers.formats import Format
from rnn_lab.data.readers.reading import (
    ReadOptions,
    check_delimiter,
    check_quotechar,
    check_separator,
)
from rnn_lab.validation import StrictConfig, Text

Column = StrictInt | Text  # its position from 0, or its name
Delimiter = Annotated[Text, AfterValidator(check_delimiter)]
Quotechar = Annotated[Text, AfterValidator(check_quotechar)]
Separator = Annotated[Text, AfterValidator(check_separator)]


class ReadConfig(StrictConfig):
    """The options of both; conf/data/files.yaml and conf/predict.yaml explain each."""

    format: Format | None = None
    header: StrictBool | Literal["auto"] = "auto"
    columns: list[Column] | None = None
    delimiter: Delimiter | None = None
    quotechar: Quotechar | None = None
    text_column: Column | list[Column] | None = None
    encoding: Text = "auto"


def read_options(config: ReadConfig, *, prefix: str = "") -> ReadOptions:
    """Return the options of a config that has them under the names of ReadOptions."""
    text, label = config.text_column, getattr(config, "label_column", None)
    return ReadOptions(
        format=config.format,
        encoding=config.encoding,
        header=None if config.header == "auto" else config.header,
        columns=tuple(map(str, config.columns or ())),
        delimiter=config.delimiter,
        quotechar=config.quotechar,
        text_column=tuple(text) if isinstance(text, list) else text,
        label_column=tuple(label) if isinstance(label, list) else label,
        label_separator=getattr(config, "label_separator", None),
        group_column=getattr(config, "group_column", None),
        id_column=getattr(config, "id_column", None),
        prefix=prefix,
    )
