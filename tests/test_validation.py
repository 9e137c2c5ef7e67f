from typing import Annotated

import pytest
from pydantic import BeforeValidator, PositiveInt

from rnn_lab.errors import ConfigError
from rnn_lab.training.config import RunConfig
from rnn_lab.validation import AUTO, OrAuto, StrictConfig, unknown_choice_message, validate

GOOD = {
    "model": {"name": "gru"},
    "data": {"source": "demo"},
    "optimizer": {"name": "adamw"},
    "scheduler": {"name": "one_cycle"},
    "trainer": {},
    "logger": {"name": "csv"},
}


def with_option(group: str, name: str, value: object) -> dict:
    return GOOD | {group: GOOD[group] | {name: value}}


def test_defaults_pass():
    assert validate(RunConfig, GOOD).model.hidden_size == 128


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (with_option("model", "hidden_size", -1), "model.hidden_size=-1: input should be greater"),
        (
            with_option("model", "pooling", "sum"),
            "Choose from: attention, last, last_max_mean, ",
        ),
        (with_option("model", "dropout", 1.0), "model.dropout=1.0: input should be less than 1"),
        (
            with_option("data", "source", "imbd"),
            "data.source=imbd: no such data source. Did you mean imdb? Choose from: ",
        ),
        (with_option("data", "num_trian", 5), "data.num_trian: no such option"),
        (with_option("data", "val_split", "by_film"), "data.val_split=by_film: impossible value"),
        (with_option("trainer", "devices", 0), "trainer.devices"),
        (with_option("trainer", "limit_train_batches", 1.5), "trainer.limit_train_batches"),
        (with_option("logger", "name", "mlflow"), "Choose from: wandb, csv, none, tensorboard"),
        (GOOD | {"data": {"source": "files"}}, "data.train_path is not set"),
        (GOOD | {"seed": -1}, "seed=-1"),
    ],
)
def test_an_impossible_value_is_one_line_that_names_the_option(options, line):
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, options)
    assert line in str(caught.value)
    assert len({text.partition("=")[0] for text in str(caught.value).splitlines()}) == 1


def test_two_bad_options_are_two_lines():
    options = with_option("model", "num_layers", 0) | {"seed": "one"}
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, options)
    assert [line.partition("=")[0] for line in str(caught.value).splitlines()] == [
        "seed",
        "model.num_layers",
    ]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            with_option("data", "max_lenght", 5),
            "data.max_lenght: no such option. Did you mean max_length?",
        ),
        (
            with_option("model", "hiden_size", 5),
            "model.hiden_size: no such option. Did you mean hidden_size?",
        ),
        (
            with_option("logger", "mode", "of"),
            "logger.mode: no such option",
        ),
        (GOOD | {"sede": 5}, "sede: no such option. Did you mean seed?"),
        (
            GOOD | {"data": {"source": "files", "train_path": "x.csv", "class_names": ["a", [5]]}},
            "data.class_names.1=[5]: input should be a valid string",
        ),
    ],
)
def test_an_unknown_option_is_named_by_its_path_with_the_one_that_was_meant(options, line):
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, options)
    assert str(caught.value) == line


class ByName(StrictConfig):
    """A group that is validated by a registry: without a union, and without a tag."""

    name: str
    sizes: tuple[int, ...] = ()


def look_up(value):
    return value if isinstance(value, ByName) else ByName.model_validate(value)


class Registered(StrictConfig):
    group: Annotated[ByName, BeforeValidator(look_up)]


@pytest.mark.parametrize(
    ("group", "line"),
    [
        ({"name": "a", "sises": 5}, "group.sises: no such option. Did you mean sizes?"),
        (
            {"name": "sizes", "sizes": [1, "b"]},
            "group.sizes.1=b: input should be a valid integer, unable to parse string as an "
            "integer",
        ),
        ({"sizes": []}, "group.name: no value given"),
    ],
)
def test_a_group_of_a_registry_has_the_same_messages(group, line):
    with pytest.raises(ConfigError) as caught:
        validate(Registered, {"group": group})
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("group", "value", "line"),
    [
        ("logger", {"mode": "offline"}, "logger.name: no value given"),
        ("data", {"max_length": 5}, "data.source: no value given"),
        (
            "optimizer",
            {"name": "adamw", "amsgrad": "maybe"},
            "optimizer.amsgrad=maybe: give a number, true, false or a list of numbers",
        ),
        (
            "data",
            {"source": "demo", "class_weights": {"a": 1}},
            "data.class_weights={'a': 1}: give balanced, or a list of positive numbers",
        ),
        ("metrics", {"own": "parts.Own"}, "metrics.own: needs a _target_, the class to build"),
        (
            "model",
            {"name": "lstm", "reset_after": True},
            "model.reset_after: only model=gru has this option, not lstm; choose a cell by",
        ),
    ],
)
def test_a_problem_of_a_group_is_named_with_the_group(group, value, line):
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, GOOD | {group: value})
    assert str(caught.value).startswith(line)


def test_the_name_that_was_meant_is_offered():
    assert "Did you mean max_length?" in unknown_choice_message(
        "x", "data.max_lenght", ["max_length", "min_freq"]
    )
    assert "Did you mean" not in unknown_choice_message("x", "zzz", ["max_length", "min_freq"])
    metrics = ["val/accuracy", "val/auroc", "val/f1", "val/f1_micro"]
    assert "Did you mean val/accuracy?" in unknown_choice_message("x", "val/acc", metrics)
    assert "Did you mean val/f1?" in unknown_choice_message("x", "val/f", metrics)
    assert "Did you mean" not in unknown_choice_message("x", "", ["max_length"])


class Sizes(StrictConfig):
    size: Annotated[PositiveInt, OrAuto()] = AUTO
    limit: Annotated[PositiveInt, OrAuto()] | None = 3


def test_auto_is_a_value_of_an_option_of_numbers():
    sizes = validate(Sizes, {"limit": "auto"})
    assert sizes.model_dump(mode="json") == {"size": "auto", "limit": "auto"}
    assert validate(Sizes, sizes.model_dump()) == sizes
    assert validate(Sizes, {"size": "7", "limit": None}).model_dump() == {"size": 7, "limit": None}
    resolved = sizes.model_copy(update={"size": 5})
    assert resolved.model_dump_json() == '{"size":5,"limit":"auto"}'


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"size": "seven"}, "size=seven: input should be a valid integer, or auto"),
        ({"size": 0}, "size=0: input should be greater than 0, or auto"),
        ({"size": None}, "size=null: input should be a valid integer, or auto"),
        ({"limit": "Auto"}, "limit=Auto: input should be a valid integer, or auto"),
    ],
)
def test_neither_a_number_nor_auto_is_one_line(options, line):
    with pytest.raises(ConfigError) as caught:
        validate(Sizes, options)
    assert str(caught.value) == line
