"""Options on the command line: text taken literally, and text quoted so that it is read back.

Hydra's grammar interprets brackets, quotes, commas, `=`, `#` and numbers, and refuses letters
beyond ASCII. A path, a column or a name may contain any of them. The fields of a schema that hold
such text have the types `Text` and `FilePath` of rnn_lab.validation; their values are quoted before
Hydra reads them, unless they are Hydra's syntax already (docs/command_line.md has the rule).
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel

from rnn_lab.errors import ConfigError, join_lines, user_message
from rnn_lab.paths import expand_home
from rnn_lab.plain_options import PLAIN
from rnn_lab.validation import OptionsOf, Verbatim, unknown_choice_message

_OVERRIDE = re.compile(r"(\+{0,2})([\w./@-]+)=(.*)", re.DOTALL)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_QUOTED = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_IS_QUOTED = re.compile(_QUOTED, re.DOTALL)
_LIST = rf"\[(?:{_QUOTED}|[^\[\]])*\]"
_BARE = r"(?:\\[\\, ]|[^,])*?"
# One value of a sweep, or of a list: an apostrophe within a word opens no quotes.
_VALUE = re.compile(rf"\s*((?:{_QUOTED}|{_LIST})(?=\s*(?:,|$))|{_BARE})\s*(?:,|$)", re.DOTALL)
_ITEM = re.compile(rf"\s*((?:{_QUOTED})(?=\s*(?:,|$))|{_BARE})\s*(?:,|$)", re.DOTALL)
# Hydra's escapes of its own punctuation: epoch\=3.ckpt. Before anything else a backslash is one.
_ESCAPED = re.compile(r"(\\+)([,=:()\[\]{} \t])")
_CALL = re.compile(rf"({'|'.join(create_functions().definitions)})\s*\((.*)\)", re.DOTALL)
# Text that is taken literally as a value and within a list.
_LITERAL = re.compile(
    r"(?!(?:null|true|false)$)[^\s'\"\[\](){}~,$][^'\"\[\](),$]*(?<!\s)", re.IGNORECASE
)
_TILDE = re.compile(r"(['\"]?)(~[^/'\"]*)")


@dataclass(frozen=True)
class TextOption:
    """What the value of an option that holds text may be beside text."""

    is_list: bool = False  # a list of texts
    is_integer: bool = False  # the position of a column
    is_boolean: bool = False
    expands: bool = False  # a path that Hydra uses before any schema expands its `~`
    is_swept: bool = True  # may differ between the jobs of a sweep: a comma separates values there
    is_group: bool = False  # the choice of a config group
    may_be_absent: bool = False  # a group that `null` leaves out


def text_options(schema: type[BaseModel], prefix: str = "") -> dict[str, TextOption]:
    """Return the options of a schema that hold text, by their names on the command line.

    Subclasses count too: the options of each data source and each cell.
    """
    found: dict[str, TextOption] = {}
    for name, field in schema.model_fields.items():
        types = list(_types(field.annotation, field.metadata))
        if any(isinstance(kind, Verbatim) for kind, _ in types):
            found[f"{prefix}{name}"] = TextOption(
                is_list=any(in_list for _, in_list in types),
                is_integer=any(kind is int for kind, _ in types),
                is_boolean=any(kind is bool for kind, _ in types),
            )
        for kind, _ in types:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                for group in _with_subclasses(kind):
                    found |= text_options(group, f"{prefix}{name}.")
    return found


def take_literally(
    arguments: Sequence[str], options: Mapping[str, TextOption], is_sweep: Callable[[], bool]
) -> list[str]:
    """Return the arguments of a command with the values of `options` in Hydra's quotes.

    `is_sweep` is asked where a comma may separate the values of a sweep. Other arguments, and
    values that Hydra reads as the same text, are unchanged.
    """
    return [_take_literally(argument, options, is_sweep) for argument in arguments]


def parse_value(value: str) -> str:
    """Return the text of an option for a command without Hydra, as Hydra's commands read it.

    Raises:
        ConfigError: a reference `${...}` in it cannot be resolved.
    """
    quoted = _text(value, TextOption())
    read = OverridesParser.create().parse_override(f"value={quoted}").value()
    try:
        return str(OmegaConf.create({"value": read})["value"])
    except OmegaConfBaseException as error:
        raise ConfigError(f"{value}: {str(error).partition(chr(10))[0]}") from error


def parse_arguments(arguments: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the options `name=value` of a command without Hydra, in their order.

    Raises:
        ConfigError: an argument is not name=value, its name is not one of `names` or is repeated,
            or its value is empty.
    """
    options: dict[str, str] = {}
    for argument in arguments:
        name, is_option, value = argument.partition("=")
        if not is_option or not name:
            what = f"{argument}: expected name=value"
            raise ConfigError(unknown_choice_message(what, name, names))
        if name not in names:
            raise ConfigError(unknown_choice_message(f"{name}: no such option", name, names))
        if not value:
            raise ConfigError(f"{name}=: no value given")
        if name in options:
            raise ConfigError(f"{name}: given twice")
        options[name] = parse_value(value)
    return options


def quote_value(text: str) -> str:
    """Return a text as Hydra's grammar reads it, in quotes where it would read something else."""
    return text if _reads_as(text, text) else in_quotes(text)


def quote_override(name: str, text: str) -> str:
    """Return `name=text`, to be read by Hydra as exactly that text: `${` is no reference."""
    return f"{name}={quote_value(_escape_references(text))}"


def set_folder(config: DictConfig, option: str, folder: str) -> None:
    """Set an option of Hydra in a composed config, and in those of the jobs of its sweep."""
    with read_write(config), open_dict(config):
        OmegaConf.update(config, option, _escape_references(folder))
        config.hydra.overrides.hydra.append(quote_override(option, folder))


def own_options(config: DictConfig) -> dict[str, Any]:
    """Return the resolved options of a composed config, without Hydra's.

    Raises:
        OmegaConfBaseException: one has a reference `${...}` that cannot be resolved.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    options: Any = OmegaConf.to_container(own, resolve=True)
    return dict(options)


def show_option(name: str, value: Any) -> str:
    """Return an option that holds text for a message: as one types it, with few quotes."""
    is_list = isinstance(value, list | tuple)
    return shell_quote(
        f"{name}=[{','.join(map(_show, value))}]" if is_list else f"{name}={_show(value)}"
    )


def _show(value: Any) -> str:
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    is_literal = _LITERAL.fullmatch(value) and not _INTEGER.fullmatch(value)
    return value if is_literal and not _ESCAPED.search(value) else in_quotes(value)


def shell_command(program: str, *arguments: str) -> str:
    """Return a command to paste into a POSIX shell; `program` is shell syntax already."""
    return f"{program} {shell_words(arguments)}"


def shell_words(arguments: Iterable[str]) -> str:
    """Return arguments as the words of a shell command."""
    return " ".join(map(shell_quote, arguments))


def shell_quote(text: str) -> str:
    """Return a text as one word of a POSIX shell, in the quotes that are easier to read."""
    if re.fullmatch(r"[\w@%+=:,./-]+", text):  # letters of any script are plain
        return text
    return f'"{text}"' if "'" in text and not re.search(r'["$`\\!]', text) else shlex.quote(text)


def in_quotes(text: str) -> str:
    """Return a text in Hydra's single quotes; a reference `${...}` in it remains one."""
    return QuotedString(text, Quote.single).with_quotes()


def composition_message(error: Exception) -> str:
    """Return the text to print for an error of composing, as `user_message` does.

    For an override that Hydra's grammar refuses it names the exact quotes.
    """
    if (override := getattr(error, "override", None)) is None:
        return user_message(error)
    reason = join_lines(str(error)).partition(" See https://")[0]
    reason = reason.removeprefix(f"Error parsing override '{override}' ")
    if reason.startswith("LexerNoViableAltException"):
        reason = "has a character that needs quotes"
    advice = f"; to give it as text: {quoted}" if (quoted := suggest_quotes(override)) else ""
    return f"{override}: not a valid override: {reason}{advice}"


def suggest_quotes(override: str) -> str | None:
    """Return a refused override as the shell and Hydra read it as text, None if neither can."""
    if (parts := _OVERRIDE.fullmatch(override)) is None:
        return None
    prefix, name, value = parts.groups()
    quoted = f"{prefix}{name}={in_quotes(value)}"
    try:
        OverridesParser.create().parse_override(quoted)
    except HydraException:
        return None
    return shell_quote(quoted)


def _types(annotation: Any, metadata: Sequence[Any], in_list: bool = False) -> Iterator[Any]:
    """Yield each type that a value may have, or its mark, and whether that is in a list."""
    for mark in metadata:
        if isinstance(mark, Verbatim | OptionsOf):
            yield mark.schema if isinstance(mark, OptionsOf) else mark, in_list
            return
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        yield from _types(inner, marks, in_list)
    elif arguments := get_args(annotation):
        in_list = in_list or get_origin(annotation) in (list, tuple)
        for argument in arguments:
            yield from _types(argument, (), in_list)
    elif annotation is not NoneType:
        yield annotation, in_list


def _with_subclasses(schema: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield schema
    for subclass in schema.__subclasses__():
        yield from _with_subclasses(subclass)


def _take_literally(
    argument: str, options: Mapping[str, TextOption], is_sweep: Callable[[], bool]
) -> str:
    parts = _OVERRIDE.fullmatch(argument)
    if parts is None:
        return argument
    prefix, name, value = parts.groups()
    group, _, package = name.partition("@")
    option = options.get(group)
    if option is None or (package and not option.is_group):
        return argument
    if option.may_be_absent and not prefix and value.lower() == "null":
        return f"~{name}"  # Hydra takes a text only
    return f"{prefix}{name}={_values(value, option, is_sweep)}"


def _values(value: str, option: TextOption, is_sweep: Callable[[], bool]) -> str:
    """Return all of what follows `name=`, which may be a sweep."""
    if not value or PLAIN.fullmatch(value):
        return value
    if call := _CALL.fullmatch(value):
        if call[1] != "choice":
            return value
        values = _split(call[2], _VALUE)
        quoted = [_value(one, option) for one in values]
        return value if quoted == values else ",".join(quoted)  # in choice() Hydra loses quotes
    values = _split(value, _VALUE if option.is_list else _ITEM)
    if len(values) > 1 and all(values) and option.is_swept and is_sweep():
        return ",".join(_value(one, option) for one in values)
    return _value(value, option)


def _value(value: str, option: TextOption) -> str:
    """Return one value: null, a list of texts, or a text."""
    if value.lower() == "null" and not option.is_group:
        return value
    if option.is_boolean and value.lower() in ("true", "false"):
        return value
    if option.is_list and value.startswith("[") and value.endswith("]"):
        items = _split(value[1:-1], _ITEM) if value[1:-1].strip() else []
        return f"[{','.join(_text(item, option) for item in items)}]"
    return _text(value, option)


def _text(value: str, option: TextOption) -> str:
    if option.expands and (tilde := _TILDE.match(value)):
        value = f"{tilde[1]}{expand_home(tilde[2])}{value[tilde.end() :]}"
    if _IS_QUOTED.fullmatch(value):
        return value
    if option.is_integer and _INTEGER.fullmatch(value):
        return value
    return quote_value(_ESCAPED.sub(_unescape, value))


def _unescape(escaped: re.Match[str]) -> str:
    """Return the character without its backslash; each two backslashes before it are one."""
    return "\\" * (len(escaped[1]) // 2) + escaped[2]


def _split(values: str, pattern: re.Pattern[str]) -> list[str]:
    """Split at the commas between values, which are not in quotes."""
    found, start = [], 0
    while start <= len(values):
        match = pattern.match(values, start)
        assert match is not None  # the pattern matches the empty text too
        found.append(match[1])
        start = match.end() if match[0].endswith(",") else len(values) + 1
    return found


@cache
def _reads_as(value: str, text: str) -> bool:
    """Return whether Hydra reads `value` as `text`, alone and in a list."""
    if PLAIN.fullmatch(value):
        return value == text
    if value != value.strip():
        return False
    try:
        read = OverridesParser.create().parse_override(f"value={value}").value()
    except HydraException:
        return False
    return isinstance(read, str) and read == text


def _escape_references(text: str) -> str:
    r"""Escape each `${` for OmegaConf, and double the backslashes before it."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
