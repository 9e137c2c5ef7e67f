"""Find the header of a table, its text and its label: by option, by name or by evidence.

Evidence is what the first rows contain. Where it does not decide, the error lists the columns and
names the option: a wrong guess would train a model on the wrong column.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rnn_lab.data.readers.labels import is_indicator, is_number, label_text, parse_list
from rnn_lab.errors import listed

Column = str | int  # its name, or its position from 0

DEFAULT_TEXT_COLUMNS = (
    *("text", "texts", "review", "reviews", "review_text", "reviewtext", "sentence", "sentences"),
    *("content", "comment", "comments", "body", "document", "message", "tweet"),
)
DEFAULT_LABEL_COLUMNS = (
    *("label", "labels", "sentiment", "class", "category", "target", "polarity", "topic"),
)
_LISTED_COLUMNS = 20  # in an error message
_LISTED_PATHS = 10  # of one object, in it

_COUNTED_VALUES = 200  # distinct short values of a column
_SHORT = 60  # characters of a value that may be a label or the name of a column
_TEXT_LENGTH = 20  # mean characters of a column of texts
_TEXT_WORDS = 3  # mean words of one, in a script with spaces
_LABEL_LENGTH = 40  # mean characters of a column of labels
_NAME_WORDS = 4  # of the name of a column
_DECISIVE_ROWS = 3  # fewer rows are no evidence


@dataclass
class ColumnStats:
    """What the first rows of a file have in one column."""

    rows: int = 0  # with a value
    missing: int = 0
    characters: int = 0
    words: int = 0
    ascii: int = 0  # values
    numbers: int = 0
    fractions: int = 0
    lists: int = 0
    longest: int = 0
    digits: int = 0  # of short values
    nested: bool = False  # lists or objects
    paths: dict[str, None] = field(default_factory=dict)  # of the values in objects: data.text
    distinct: set[int] = field(default_factory=set)  # hashes
    short_values: set[str] = field(default_factory=set)  # at most _COUNTED_VALUES

    def add(self, value: Any) -> None:
        """Count one value."""
        if not isinstance(value, str):
            try:
                value = label_text(value)
            except TypeError:
                self.nested = True
                return
        value = value.strip()
        if not value:
            self.missing += 1
            return
        self.rows += 1
        self.characters += len(value)
        self.words += value.count(" ") + 1
        self.ascii += value.isascii()
        self.longest = max(self.longest, len(value))
        if is_number(value):
            self.numbers += 1
            self.fractions += "." in label_text(value)
        self.lists += value[0] == "[" and parse_list(value) is not None
        self.distinct.add(hash(value))
        if len(value) <= _SHORT:
            self.digits += sum(map(str.isdigit, value))
            if len(self.short_values) < _COUNTED_VALUES:
                self.short_values.add(value)

    @property
    def is_numeric(self) -> bool:
        """Whether every value is a number."""
        return 0 < self.rows == self.numbers

    @property
    def is_list(self) -> bool:
        """Whether every value is a list of labels."""
        return 0 < self.rows == self.lists

    @property
    def mean_length(self) -> float:
        """The mean number of characters."""
        return self.characters / max(self.rows, 1)

    @property
    def is_text(self) -> bool:
        """Whether the values are texts: long, of different lengths and mostly distinct."""
        has_words = self.words >= _TEXT_WORDS * self.rows or self.ascii < self.rows / 2
        length = _TEXT_LENGTH if self.ascii >= self.rows / 2 else _TEXT_LENGTH / 2
        may_be_date = self.longest < 1.1 * self.mean_length and 5 * self.digits > self.characters
        return (
            self.rows >= _DECISIVE_ROWS
            and not self.nested
            and not self.is_list
            and has_words
            and self.mean_length >= length
            and not may_be_date
            and 2 * len(self.distinct) >= self.rows
        )

    @property
    def may_be_label(self) -> bool:
        """Whether the values are short and repeat: classes, or one class of a sorted file.

        Empty ones are another question: they may be texts without a label.
        """
        return (
            self.rows >= _DECISIVE_ROWS
            and not self.nested
            and not self.fractions
            and self.mean_length <= _LABEL_LENGTH
            and 2 * len(self.distinct) <= self.rows
            and len(self.distinct) < _COUNTED_VALUES
        )

    @property
    def is_mostly_filled(self) -> bool:
        """Whether nine of ten rows, or more, have a value."""
        return self.rows >= 9 * self.missing

    @property
    def is_indicator(self) -> bool:
        """Whether the values are 0 and 1: whether a text has the label that names the column."""
        are_flags = all(map(is_indicator, self.short_values))
        return self.rows >= _DECISIVE_ROWS and not self.nested and are_flags

    def has(self, value: str) -> bool:
        """Whether the short value occurs."""
        return value.strip() in self.short_values


class UnknownColumnError(Exception):
    """No single column is the text, or the label; the message lists the columns."""


@dataclass(frozen=True)
class ResolvedColumns:
    """The header of a file, its text and its label."""

    names: tuple[str, ...]  # "0", "1", ... without a header
    text: tuple[str, ...]  # joined with a space
    label: str | None
    header: bool = True
    group: str | None = None  # of examples that belong together
    id: str | None = None  # of an unlabelled row
    indicators: tuple[str, ...] = ()  # columns of 0 and 1, one a label; then `label` is None

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns of the text and of the labels."""
        labels = self.indicators if self.label is None else (self.label,)
        return (*self.text, *labels)

    @property
    def read(self) -> tuple[str, ...]:
        """All columns that a row needs: `wanted`, group and id."""
        more = (name for name in (self.group, self.id) if name is not None)
        return tuple(dict.fromkeys([*self.wanted, *more]))

    @property
    def text_positions(self) -> tuple[int, ...]:
        """The positions of the text's parts."""
        return tuple(self.names.index(name) for name in self.text)

    @property
    def label_position(self) -> int | None:
        """The position of the label."""
        return self._position(self.label)

    @property
    def group_position(self) -> int | None:
        """The position of the group."""
        return self._position(self.group)

    @property
    def id_position(self) -> int | None:
        """The position of the id."""
        return self._position(self.id)

    def _position(self, name: str | None) -> int | None:
        return None if name is None else self.names.index(name)

    @property
    def indicator_positions(self) -> tuple[int, ...]:
        """The positions of the indicators."""
        return tuple(self.names.index(name) for name in self.indicators)


@dataclass(frozen=True)
class ColumnOptions:
    """How a user names the columns; None and () are inferred."""

    text: Column | Sequence[Column] | None = None
    label: Column | Sequence[Column] | None = None  # several: indicators, see ResolvedColumns
    group: Column | None = None
    id: Column | None = None  # of unlabelled rows; None: "id"
    names: Sequence[str] = ()  # of a file without a header
    header: bool | None = None
    labelled: bool = True
    several_labels: bool = False  # in a cell, which is empty where a text has none
    like: ResolvedColumns | None = None  # of another file, for what evidence does not decide
    prefix: str = ""  # of the options in a message
    text_option: str = "text_column"  # its name there

    def option(self, kind: str) -> str:
        """Return the option that names the column of a kind: "text", "label", "group" or "id"."""
        return self.prefix + (self.text_option if kind == "text" else f"{kind}_column")

    @property
    def texts(self) -> tuple[Column, ...]:
        """The columns of the text."""
        if self.text is None:
            return ()
        return (self.text,) if isinstance(self.text, str | int) else tuple(self.text)

    @property
    def indicators(self) -> tuple[Column, ...]:
        """The columns of 0 and 1, one a label; () if the labels are in one column."""
        return () if isinstance(self.label, str | int | None) else tuple(self.label)

    @property
    def chosen_names(self) -> set[str]:
        """The columns that the user chose by a name, which a header has."""
        chosen = (*self.texts, *(self.indicators or (self.label,)), self.group, self.id)
        return {name for name in chosen if isinstance(name, str) and not name.isdecimal()}

    @property
    def paths(self) -> list[str]:
        """The columns that may be keys of nested objects: data.text."""
        names = {*self.chosen_names, *(self.like.read if self.like else ())}
        return sorted(name for name in names if "." in name)


def resolve_columns(
    names: Sequence[str],
    options: ColumnOptions,
    stats: Mapping[str, ColumnStats] | None = None,
    *,
    header: bool = True,
    shown: Sequence[str] | None = None,
) -> ResolvedColumns:
    """Find the text and the label among named columns.

    Args:
        names: of the columns.
        options: what the user says of them.
        stats: the evidence; None: names alone decide.
        header: of the result.
        shown: how a message lists the columns; default: by their names, and objects by the paths
            of the values in them.

    Raises:
        UnknownColumnError: a column that the user names is not there, or no single column is the
            text or the label.
    """
    stats = stats or {}
    if shown is None:
        paths = {name: list(map(shorten, found.paths)) for name, found in stats.items()}
        shown = [listed(paths.get(name, []), _LISTED_PATHS) or shorten(name) for name in names]
    resolver = _Resolver(names, options, stats, shown, header=header)
    group, id_ = resolver.group(), resolver.id()
    others = {group, id_ if options.id is not None else None}
    text, label, indicators = resolver.resolve(others)
    return ResolvedColumns(tuple(names), text, label, header, group, id_, indicators)


def _different(names: Sequence[str]) -> list[str]:
    """Return the names with a number where they would occur again, of no more than are listed."""
    found: list[str] = []
    for name in names[:_LISTED_COLUMNS]:
        number, other = 2, name
        while other in found:
            number, other = number + 1, f"{name}_{number}"
        found.append(other)
    return [*found, "..."] if len(names) > _LISTED_COLUMNS else found


class _Resolver:
    """Find text and label: by option, by a common name, by evidence, or as in another file."""

    def __init__(
        self,
        names: Sequence[str],
        options: ColumnOptions,
        stats: Mapping[str, ColumnStats],
        shown: Sequence[str],
        *,
        header: bool,
    ) -> None:
        self._names = names
        self._header = header  # whether the names are of the file, and not numbers
        self._options = options
        self._stats = {name: stats[name] for name in unique(names) if name in stats}
        self._shown = shown  # the columns, for a message
        self._problems: dict[str, str] = {}  # by kind: "text", "label"
        self._texts: list[str] = []  # several columns that may be the text
        self._indicators: list[str] = []  # several columns that may be a label each

    def resolve(
        self, others: set[str | None]
    ) -> tuple[tuple[str, ...], str | None, tuple[str, ...]]:
        """Return the columns of the text, the one of the label, and the indicators.

        None is among `others`.
        """
        options = self._options
        self._stats = {name: found for name, found in self._stats.items() if name not in others}
        text = tuple(self._chosen(column, "text") for column in options.texts)
        label: str | None = None
        indicators: tuple[str, ...] = ()
        if options.labelled and isinstance(options.label, str | int):
            label = self._chosen(options.label, "label")
        elif options.labelled:
            indicators = tuple(self._chosen(column, "label") for column in options.indicators)
        is_inferred = options.labelled and options.label is None
        used = {label, *indicators}
        if (like := options.like) is not None and like.header:
            names = set(unique(self._names))
            if not text and not used & set(like.text) and names.issuperset(like.text):
                text = like.text
            if is_inferred and like.label in names - set(text):
                label = like.label
        texts = self._common(DEFAULT_TEXT_COLUMNS, {label, *indicators})
        text = text or tuple(texts if len(texts) == 1 else [])
        labels = self._common(DEFAULT_LABEL_COLUMNS, set(text))
        if is_inferred and label is None and len(labels) == 1:
            (label,) = labels
        text = text or self._infer_text(texts, {label, *indicators})
        if is_inferred and label is None:
            label = self._infer_label(labels, text)
        if self._problems:
            raise UnknownColumnError(self._advice(text))
        return text, label, indicators

    def group(self) -> str | None:
        """Return the column of the groups."""
        group, like = self._options.group, self._options.like
        if group is None or not self._options.labelled:
            return None
        is_there = group in self._names if isinstance(group, str) else group < len(self._names)
        if like is not None and not is_there:
            return None  # as in a test file that is not cut
        return self._chosen(group, "group")

    def id(self) -> str | None:
        """Return the column of the ids of unlabelled rows, if there is one."""
        if self._options.labelled:
            return None
        if self._options.id is not None:
            return self._chosen(self._options.id, "id")
        return "id" if "id" in self._names else None

    def _chosen(self, column: Column, kind: str) -> str:
        """Return the name of a column that the user chose."""
        names = self._names
        columns = listed(self._shown, _LISTED_COLUMNS)
        advice = f"set {self._options.option(kind)} to one of: {columns}"
        if isinstance(column, int):
            if column >= len(names) and str(column) in names:  # a year, say
                return self._chosen(str(column), kind)
            if not 0 <= column < len(names):
                last = len(names) - 1
                reason = f"has no column {column}; they are numbered from 0 to {last}"
                raise UnknownColumnError(f"{reason}; {advice}")
            column = names[column]
        if column not in names:
            raise UnknownColumnError(f"has no column {column!r}; {advice}")
        self._check_unique(column)
        return column

    def _check_unique(self, *columns: str) -> None:
        for column in columns:
            if self._names.count(column) > 1:
                prefix, different = self._options.prefix, ",".join(_different(self._names))
                raise UnknownColumnError(
                    f"has more than one column {column!r}; give each a name of its own, such as "
                    f"{prefix}header=true '{prefix}columns=[{different}]'"
                )

    def _common(self, known: Sequence[str], others: set[Any]) -> list[str]:
        """Return the columns with a common name."""
        return [n for n in self._names if n.strip().lower() in known and n not in others]

    def _infer_text(self, common: Sequence[str], labels: set[Any]) -> tuple[str, ...]:
        like = self._options.like
        found = [n for n, stats in self._stats.items() if n not in labels and stats.is_text]
        if not common and len(found) == 1:
            return tuple(found)
        self._check_unique(*common)
        if like is not None and set(like.text) <= set(self._names) - labels:
            return like.text
        if common:
            self._problems["text"] = "more than one column has a common name for the text"
        elif found:
            self._problems["text"] = f"more than one column may be the text: {', '.join(found)}"
            self._texts = found
        else:
            self._problems["text"] = "no column has a common name for the text"
        return ()

    def _infer_label(self, common: Sequence[str], text: Sequence[str]) -> str | None:
        self._check_unique(*common)
        like = self._options.like
        named = like.label if like is not None and like.header and self._header else None
        if named is not None and named not in self._names and not common:
            # Whatever it looks like: it may be a note, or what another model predicted.
            raise UnknownColumnError(
                f"has no column {named!r}, as the training file has; columns: "
                f"{listed(self._shown, _LISTED_COLUMNS)}; set {self._options.option('label')} "
                "if one of them is the label; predict.py labels texts without labels"
            )
        others = [n for n, s in self._stats.items() if n not in text and not s.is_text]
        found = [name for name in others if self._may_be_label(self._stats[name])]
        # In a file sorted by class, the label is constant at first: so may other columns be.
        varies = any(len(self._stats[name].distinct) > 1 for name in found)
        if not common and len(found) == 1 and (varies or len(others) == 1):
            return found[0]
        if like is not None and like.label in self._names:
            return like.label
        number = "more than one" if common else "no"
        self._problems["label"] = f"{number} column has a common name for the label"
        self._indicators = [name for name in others if self._stats[name].is_indicator]
        return None

    def _may_be_label(self, stats: ColumnStats) -> bool:
        may_be_empty = self._options.several_labels or stats.is_list
        return stats.may_be_label and (may_be_empty or stats.is_mostly_filled)

    def _advice(self, text: Sequence[str]) -> str:
        """Return the problems and the options to set; `text` is what was found."""
        kinds = list(self._problems)
        wanted = " and ".join(map(self._options.option, kinds))
        several = ""
        if len(self._texts) > 1:
            several += f"; {self._list_option('text', self._texts)} joins them"
        if len(self._indicators) > 1:
            option = self._list_option("label", self._indicators)
            several += f"; {option} reads columns of 0 and 1, one a label"
        number = "one of" if len(kinds) == 1 else "two of"
        pairs = zip(self._names, self._shown, strict=True)
        others = [shown for name, shown in pairs if name not in text] or self._shown
        reasons = " and ".join(self._problems.values())
        choices = listed(others, _LISTED_COLUMNS)
        return f"{reasons}{several}; set {wanted} to {number}: {choices}"

    def _list_option(self, kind: str, names: Sequence[str]) -> str:
        from rnn_lab.overrides import show_option  # it imports Hydra

        typed = [int(name) if name.isdecimal() else name for name in names]
        return show_option(self._options.option(kind), typed)


def unique(names: Iterable[str]) -> list[str]:
    """Return the names that occur once, in order."""
    counts = Counter(names)
    return [name for name, count in counts.items() if count == 1]


def has_header(
    first: Sequence[str], below: Sequence[ColumnStats], options: ColumnOptions
) -> bool | None:
    """Return whether the first row of a table has the names of its columns; None: not plain.

    `below` are the columns of the rows after it.
    """
    if options.header is not None:
        return options.header
    names = [cell.strip() for cell in first]
    if options.names:
        return [name.lower() for name in names] == [str(name).lower() for name in options.names]
    if options.chosen_names & set(names):
        return True
    repeats = any(
        stats.may_be_label and stats.is_mostly_filled and stats.has(name)
        for name, stats in zip(names, below, strict=False)
    )
    lower = {name.lower() for name in names}
    if lower & {*DEFAULT_TEXT_COLUMNS} and lower & {*DEFAULT_LABEL_COLUMNS}:
        return True  # and again below, where files were joined
    known = {*DEFAULT_TEXT_COLUMNS, *(DEFAULT_LABEL_COLUMNS if options.labelled else ())}
    if any(name.lower() in known for name in names) and not repeats:
        return True
    if repeats:
        return False
    pairs = [(name, stats) for name, stats in zip(names, below, strict=False) if stats.is_numeric]
    if any(not is_number(name) and name for name, stats in pairs):
        return True
    if any(is_number(name) for name, _ in pairs):
        return False
    is_name = [len(name) <= _SHORT and name.count(" ") < _NAME_WORDS for name in names]
    named = [name for name in names if name]
    texts = [i for i, stats in enumerate(below) if stats.is_text and i < len(names)]
    # Names, and not a short text of a rare class: far shorter than the texts of the column.
    are_shorter = all(0 < len(names[i]) < below[i].mean_length / 3 for i in texts)
    if texts and all(is_name) and len(set(named)) == len(named) and are_shorter:
        return True
    if texts and len(names) == 1 and not is_name[0]:
        return False
    return None


def shorten(text: str, width: int = 40) -> str:
    """Return `text` for a message: one short line of printable characters."""
    text = text if len(text) <= width else text[: width - 3] + "..."
    return text if text.isprintable() else text.encode("unicode_escape").decode()
