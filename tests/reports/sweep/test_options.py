"""The varied options of a sweep are found in its composed configs."""

from pathlib import Path

import pytest

from rnn_lab.reports.sweep.options import format_value, group_key, short_names, swept_options
from rnn_lab.runs.run_config import ABSENT, read_config, resolve
from tests.reports.sweep_folders import write_job


def configs(tmp_path: Path, *options: dict[str, object]) -> list[dict[str, object]]:
    return [
        read_config(write_job(tmp_path, str(i), epochs=0, **one)) for i, one in enumerate(options)
    ]


def test_swept_options_do_not_depend_on_the_command_line(tmp_path: Path) -> None:
    found = configs(
        tmp_path,
        {"model__name": "lstm", "model__forget_bias": 3.0, "seed": 1},
        {"model__name": "gru", "model__reset_after": True, "seed": 2, "optimizer__lr": 0.004},
    )
    # optimizer.lr is given once, with its default; options of one model have one value each;
    # data.split_seed only repeats the seed.
    assert swept_options(found) == ["model.name", "seed"]
    assert resolve(found[1], "data.split_seed") == 2
    assert resolve(found[1], "model.forget_bias") == ABSENT


def test_names_paths_and_speed_do_not_vary(tmp_path: Path) -> None:
    found = configs(
        tmp_path,
        {"name": "a", "tags": ["x"], "trial": {"number": 1}, "data__cache_dir": "here"},
        {"name": "b", "tags": ["y"], "trial": {"number": 2}, "data__cache_dir": "there"},
    )
    assert swept_options(found) == []


def test_numbers_strings_booleans_and_null_are_distinct(tmp_path: Path) -> None:
    values = [1, 1.0, True, "1", None]
    found = configs(tmp_path, *({"trainer__patience": value} for value in values))
    assert swept_options(found) == ["trainer.patience"]
    keys = [group_key(config, ["trainer.patience"]) for config in found]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    assert [format_value(config["trainer.patience"]) for config in found] == [
        "1", "1.0", "true", "1", "null",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "varied"),
    [
        ({"optimizer__amsgrad": True}, ["optimizer.amsgrad"]),
        ({"train_only": None}, ["train_only"]),
        # One column stands for the arguments, which all runs with this callback have.
        (
            {"callbacks": {"stop": {"_target_": "EarlyStopping", "monitor": "x", "patience": 3}}},
            ["callbacks.stop._target_"],
        ),
        # Neither selector of the group explains the other away.
        (
            {"callbacks": {"stop": {"_target_": "EarlyStopping", "name": "x"}}},
            ["callbacks.stop._target_", "callbacks.stop.name"],
        ),
        ({"name": "a", "logger__offline": True}, []),
    ],
)
def test_an_option_that_some_runs_lack_varies(
    tmp_path: Path, options: dict[str, object], varied: list[str]
) -> None:
    found = configs(tmp_path, options, {}, options | {"seed": 2}, {"seed": 2})
    assert swept_options([*found, {}]) == [*varied, "seed"]  # {}: of a damaged job
    keys = [group_key(config, varied) for config in found]
    assert (keys[0], keys[1]) == (keys[2], keys[3])
    assert (keys[0] == keys[1]) == (not varied)


def test_an_option_of_one_model_varies_if_some_runs_of_the_model_lack_it(tmp_path: Path) -> None:
    lstm, gru = {"model__name": "lstm", "model__forget_bias": 3.0}, {"model__name": "gru"}
    assert swept_options(configs(tmp_path, lstm, gru)) == ["model.name"]
    # Another option that differs between the runs explains nothing.
    older = {"model__name": "lstm", "optimizer__lr": 0.1}
    found = configs(tmp_path / "more", lstm, gru, older)
    assert set(swept_options(found)) == {"model.name", "model.forget_bias", "optimizer.lr"}


def test_a_split_seed_of_its_own_varies(tmp_path: Path) -> None:
    found = configs(tmp_path, {"seed": 1}, {"seed": 2}, {"seed": 1, "data__split_seed": 7})
    varied = swept_options(found)
    assert varied == ["data.split_seed", "seed"]
    one, two, other = (group_key(config, varied) for config in found)
    assert one == two != other


def test_columns_have_short_names_unless_ambiguous() -> None:
    assert short_names(["model.name", "optimizer.lr", "seed"]) == {
        "model.name": "model",
        "optimizer.lr": "lr",
        "seed": "seed",
    }
    assert short_names(["optimizer.name", "a.lr", "b.lr"]) == {
        "optimizer.name": "optimizer",
        "a.lr": "a.lr",
        "b.lr": "b.lr",
    }
    assert short_names(["callbacks.stop._target_"]) == {"callbacks.stop._target_": "stop"}
