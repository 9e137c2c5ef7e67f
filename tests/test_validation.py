import pytest

from rnn_lab.errors import ConfigError
from rnn_lab.training.config import RunConfig
from rnn_lab.validation import unknown_choice_message, validate

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
        (with_option("model", "pooling", "sum"), "Choose from: last, mean, max"),
        (with_option("model", "dropout", 1.0), "model.dropout=1.0: input should be less than 1"),
        (
            with_option("data", "source", "imbd"),
            "data.source=imbd: impossible value. Did you mean imdb? Choose from: ",
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


def test_the_name_that_was_meant_is_offered():
    assert "Did you mean max_length?" in unknown_choice_message(
        "x", "data.max_lenght", ["max_length", "min_freq"]
    )
    assert "Did you mean" not in unknown_choice_message("x", "zzz", ["max_length", "min_freq"])
