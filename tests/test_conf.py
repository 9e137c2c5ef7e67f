"""Every file of conf composes and passes its check."""

import copy
import functools
import re
from pathlib import Path

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import rnn_lab.cli  # noqa: F401  it registers the resolvers of conf
from rnn_lab.errors import ConfigError
from rnn_lab.serving.config import ServeOptions
from rnn_lab.sweeps.search.config import (
    PrunerOptions,
    SamplerOptions,
    SearchOptions,
    search_options,
)
from rnn_lab.training.config import RunConfig, check_monitor
from rnn_lab.validation import validate

CONF = Path(__file__).resolve().parents[1] / "conf"
GROUPS = (
    *("objective", "model", "data", "trainer", "logger", "optimizer", "scheduler"),
    *("experiment", "search", "callbacks", "debug", "loss", "paths"),
)
CHOICES = [f"{group}={file.stem}" for group in GROUPS for file in (CONF / group).glob("*.yaml")]


def composed_options(*overrides: str) -> DictConfig:
    """Compose the options of train.py as Hydra does: the chosen files once, then each value.

    Composing the same files again takes ten times as long.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    values = [one for one in parsed if not (CONF / one.key_or_group).is_dir()]
    if any(one.is_hydra_override() or one.is_sweep_override() or one.is_delete() for one in values):
        return composed_by_hydra(*overrides)
    config = copy.deepcopy(
        composed_by_hydra(*(str(one.input_line) for one in parsed if one not in values))
    )
    try:
        for one in values:
            adds = one.is_add() or one.is_force_add()
            OmegaConf.update(config, one.key_or_group, one.value(), force_add=adds)
    except OmegaConfBaseException:
        return composed_by_hydra(*overrides)  # with Hydra's own error
    return config


def composed_with_hydra(*overrides: str) -> DictConfig:
    """Compose the options of train.py with Hydra's own."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides), return_hydra_config=True)


@functools.cache
def composed_by_hydra(*overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=lstm", "model.hidden_size=3", "data=demo", "+data.more={a: 1}", "~tags"),
        ("seed=7", "experiment=smoke", "trainer.max_epochs=2", "++trainer.patience=null"),
        ("data.class_names=[a,'b, c']", "data=files", "optimizer=sgd", "name='x: ${seed}'"),
    ],
    ids=str,
)
def test_the_tests_compose_as_hydra_does(overrides):
    assert composed_options(*overrides) == composed_by_hydra(*overrides)
    with pytest.raises(ConfigCompositionException, match=r"Could not override 'data\.no'"):
        composed_options(*overrides, "data.no=1")


@functools.cache  # configs are frozen
def composed(*overrides: str) -> RunConfig:
    options = OmegaConf.to_container(composed_options(*overrides), resolve=True)
    return validate(RunConfig, options)


@pytest.mark.parametrize("choice", sorted(CHOICES))
def test_every_choice_composes_and_is_possible(choice):
    composed(choice, *(["data.train_path=mine.csv"] if choice == "data=files" else []))


def choices(group: str) -> list[str]:
    return sorted(f"{group}={file.stem}" for file in (CONF / group).glob("*.yaml"))


PRESETS = [preset for group in ("experiment", "search", "debug") for preset in choices(group)]
# Presets for one source, and what others override beside their options.
SOURCE_OF = {"experiment=long_range": "data=long_range"}
OVERRIDES = {"experiment=imdb_lm": ["objective=language_model"]}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_go_with_every_source_and_model(preset):
    """Merged as Hydra merges them: composing each pair takes ten times as long."""
    path = CONF / f"{preset.replace('=', '/')}.yaml"
    options = OmegaConf.load(path)
    for key in ("defaults", "hydra"):
        options.pop(key, None)
    source = SOURCE_OF.get(preset)
    for choice in ([source] if source else choices("data")) + choices("model"):
        paths = ["data.train_path=mine.csv"] if choice == "data=files" else []
        config = composed_options(choice, *paths)
        OmegaConf.set_struct(config, False)
        for other in {*OVERRIDES.get(preset, []), *([source] if source else [])} - {choice}:
            group = other.partition("=")[0]
            config[group] = composed_options(other)[group]
        config.merge_with(options)
        chosen = validate(RunConfig, OmegaConf.to_container(config, resolve=True))
        group, _, name = choice.partition("=")
        kind = chosen.model.name if group == "model" else chosen.data.source
        assert kind == name.removesuffix("_small")


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (("+data.num_test=3", "data=imdb"), "data.num_test: only data=demo, data=long_range has"),
        (("+model.forget_bias=3", "model=gru"), "model.forget_bias: only model=lstm, model=peep"),
        (("+data.max_epochs=3",), "data.max_epochs: no such option; there is trainer.max_epochs"),
        (("+model.lr=3",), "model.lr: no such option; there is optimizer.lr"),
        (("+hidden_size=3",), "hidden_size: no such option; there is model.hidden_size"),
    ],
)
def test_option_of_another_group_is_named_with_its_group(overrides, lines):
    with pytest.raises(ConfigError, match=f"^{re.escape(lines)}"):
        composed(*overrides)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm"])
def test_every_launcher_can_be_built(launcher):
    chosen = [f"hydra/launcher={launcher}", "sweep=mine"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", chosen, return_hydra_config=True)
    assert isinstance(hydra.utils.instantiate(config.hydra.launcher), Launcher)
    path = CONF / "hydra" / "launcher" / f"{launcher}.yaml"
    lines = {line.partition(":")[0]: line for line in path.read_text().splitlines()}
    unexplained = {name for name in config.hydra.launcher if "# " not in lines[name]}
    assert unexplained - {"_target_", "account", "qos", "comment", "gpus_per_node"} == set()


def test_every_option_is_in_the_yaml():
    config = composed()
    assert set(config.data.model_fields_set) == set(type(config.data).model_fields)
    for file in (CONF / "model").glob("*.yaml"):
        model = composed(f"model={file.stem}").model
        assert set(model.model_fields_set) == set(type(model).model_fields)
    assert set(config.model_fields_set) == set(RunConfig.model_fields) - {"experiment"}  # a group
    parts = (config.trainer, config.optimizer, config.scheduler, config.logger, config.paths)
    parts += (config.loss,)
    for part in parts:
        assert set(part.model_fields_set) == set(type(part).model_fields)
    for source in ("imdb", "demo", "long_range", "files", "lists"):
        paths = ["data.train_path=mine.csv"] if source == "files" else []
        data = composed(f"data={source}", *paths).data
        assert set(data.model_fields_set) == set(type(data).model_fields)


def test_a_model_and_an_optimizer_of_ones_own_are_files_with_a_name(tmp_path):
    for group, name in (("model", "gru"), ("optimizer", "adagrad")):
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(f"name: {name}\n")
    chosen = [f"hydra.searchpath=[file://{tmp_path}]", "model=mine", "optimizer=mine"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", overrides=chosen)
    mine = validate(RunConfig, OmegaConf.to_container(config, resolve=True))
    assert mine.model == composed("model=gru").model
    assert mine.optimizer.name == "adagrad"
    shared = set(composed("optimizer=rmsprop").optimizer.model_fields_set) - {"lr", "weight_decay"}
    assert mine.optimizer.model_fields_set == shared - {"momentum", "alpha", "eps"}


def test_every_option_of_serve_is_in_its_yaml_with_its_default_and_a_comment():
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("serve", overrides=["run=a"])
    options = validate(ServeOptions, OmegaConf.to_container(config, resolve=True))
    assert options == ServeOptions(run="a")
    assert options.model_fields_set == set(ServeOptions.model_fields)
    lines = (CONF / "serve.yaml").read_text().splitlines()
    for name in ServeOptions.model_fields:
        assert any(line.startswith(f"{name}: ") and "# " in line for line in lines), name


def test_every_option_of_the_optuna_sweeper_is_in_its_yaml_with_its_default():
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(
            "train", overrides=["hydra/sweeper=optuna"], return_hydra_config=True
        )
    options = search_options(config.hydra.sweeper)
    assert options == SearchOptions()
    for part in (options, options.sampler, options.pruner):
        assert set(part.model_fields_set) == set(type(part).model_fields)


def test_the_metric_that_selects_an_epoch_is_one_of_the_task():
    check_monitor(composed("trainer.monitor=val/map"), "multilabel")
    for monitor, task in (("val/map", "multiclass"), ("val/auroc", "multilabel")):
        with pytest.raises(
            ConfigError, match=rf"trainer\.monitor={monitor}: is no metric of texts"
        ):
            check_monitor(composed(f"trainer.monitor={monitor}"), task)


def test_split_follows_the_seed():
    assert composed("seed=7").data.split_seed == 7
    assert composed("seed=7", "data.split_seed=1").data.split_seed == 1


def test_the_split_of_own_files_does_not_follow_the_seed():
    files = ("data=files", "data.train_path=mine.csv")
    assert composed("seed=7", *files).data.split_seed == 0
    assert composed("seed=7", *files, "data.split_seed=1").data.split_seed == 1


def test_every_option_has_a_comment_in_its_yaml():
    lines = [line for file in CONF.rglob("*.yaml") for line in file.read_text().splitlines()]
    explained = {line.partition(":")[0].strip() for line in lines if "# " in line}
    config = composed()
    parts = (config, config.data, composed("data=demo").data, config.model, config.trainer)
    parts += (composed("model=lstm").model,)
    parts += (composed("data=long_range").data,)
    parts += (composed("data=files", "data.train_path=mine.csv").data, composed("data=lists").data)
    parts += (config.optimizer, config.scheduler, config.logger, config.trial, config.paths)
    parts += (SearchOptions(), SamplerOptions(), PrunerOptions(), config.loss)
    named = {name for part in parts for name in type(part).model_fields}
    groups_and_their_own_names = {*GROUPS, "name", "source"}
    assert named - explained <= groups_and_their_own_names
