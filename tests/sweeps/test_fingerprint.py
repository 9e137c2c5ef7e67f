"""A job is known by all that can change its result, and by nothing else."""

import types
from typing import Annotated, Union, get_args, get_origin

import hydra
import pytest
from omegaconf import OmegaConf
from rnn_lab.sweeps.fingerprint import config_fingerprint, fingerprint, job_dir

import rnn_lab.cli  # noqa: F401  it registers ${job_dir:}
from rnn_lab.data.config import TextOptions
from rnn_lab.data.sources.registry import SOURCES
from rnn_lab.errors import ConfigError
from rnn_lab.models.config import ModelConfig
from rnn_lab.training.config import RunConfig
from rnn_lab.validation import FINGERPRINT_EXCLUDED, StrictConfig, validate
from tests.test_conf import CONF, composed

# Every option that changes the result of a run. An option is either here or FINGERPRINT_EXCLUDED.
COVERED = {
    "seed",
    *(f"model.{name}" for name in ("name", "embedding_dim", "hidden_size", "num_layers")),
    *(f"model.{name}" for name in ("bidirectional", "dropout", "word_dropout", "pooling")),
    *(f"model.{name}" for name in ("forget_bias", "reset_after")),
    *(f"optimizer.{name}" for name in ("name", "lr", "weight_decay")),
    "optimizer.sparse_embedding",
    *(f"scheduler.{name}" for name in ("name", "warmup_ratio")),
    *(
        f"data.{name}"
        for name in ("source", "tokenizer", "max_vocab_size", "min_freq", "max_length")
    ),
    *(f"data.{name}" for name in ("truncation_side", "val_fraction", "split_seed")),
    "data.drop_duplicates",
    *(f"data.{name}" for name in ("batch_size", "max_tokens_per_batch", "eval_batch_size")),
    *(f"data.{name}" for name in ("val_split", "num_train", "num_test", "data_seed")),
    *(
        f"data.{name}"
        for name in ("distance", "train_path", "val_path", "test_path", "test_fraction")
    ),
    "data.text_column",
    *(f"data.{name}" for name in ("label_column", "class_names", "encoding", "on_bad_lines")),
    *(f"trainer.{name}" for name in ("accelerator", "devices", "strategy", "num_nodes")),
    *(f"trainer.{name}" for name in ("precision", "max_epochs", "gradient_clip_val")),
    *(f"trainer.{name}" for name in ("accumulate_grad_batches", "monitor", "patience")),
    *(f"trainer.limit_{split}_batches" for split in ("train", "val", "test")),
    *("trainer.log_every_n_steps", "trainer.gradient_flow"),  # what is written down
}

BASE = ("data=demo", "model=gru")


def options_of(kind) -> set[str]:
    """Every option under `kind`, dotted: a group's own, or those of all that it may be."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return set().union(*(options_of(one) for one in get_args(kind)))
    if not (isinstance(kind, type) and issubclass(kind, StrictConfig)):
        return set()
    if kind is TextOptions:  # which any registered source may extend
        return set().union(*(options_of(source.config) for source in SOURCES.values()))
    names = set()
    own_of_cells = (options_of(cell) for cell in kind.__subclasses__() if kind is ModelConfig)
    names = names.union(*own_of_cells)
    for name, field in kind.model_fields.items():
        inner = set() if name in FINGERPRINT_EXCLUDED else options_of(field.annotation)
        names |= {f"{name}.{deeper}" for deeper in inner} or {name}
    return names


def composed_with_hydra(*overrides: str):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides), return_hydra_config=True)


def test_every_option_is_classified():
    every = options_of(RunConfig)
    assert every >= {
        "seed",
        "logger",
        "data.distance",
        "data.train_path",
        "trainer.enable_progress_bar",
    }
    assert not COVERED & FINGERPRINT_EXCLUDED
    assert every - COVERED - FINGERPRINT_EXCLUDED == set()
    assert COVERED - every == set(), "no longer an option"


@pytest.fixture(scope="module")
def configs() -> list[RunConfig]:
    """One of every source, so that each option is in one of them."""
    files = ("data=files", "data.train_path=mine.csv")
    choices = (BASE, ("data=imdb",), ("data=long_range",), files)
    return [composed(*overrides) for overrides in choices]


def with_another(config: RunConfig, option: str) -> RunConfig | None:
    """`config` with another value of that option; None where it has no such option."""
    group, _, name = option.rpartition(".")
    part = getattr(config, group) if group else config
    if name not in type(part).model_fields:
        return None
    changed = part.model_copy(update={name: "another"})
    return config.model_copy(update={group: changed}) if group else changed


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_each_counts_or_does_not(configs):
    known_by = [fingerprint(config) for config in configs]
    for option in COVERED | FINGERPRINT_EXCLUDED:
        changed = [with_another(config, option) for config in configs]
        for before, config in zip(known_by, changed, strict=True):
            if config is not None:
                assert (fingerprint(config) == before) is (option in FINGERPRINT_EXCLUDED), option


def test_arguments_of_the_optimizer_count():
    known_by = fingerprint(composed(*BASE, "optimizer=sgd"))
    assert fingerprint(composed(*BASE, "optimizer=sgd", "optimizer.momentum=0.8")) != known_by
    assert fingerprint(composed(*BASE, "optimizer=sgd", "optimizer.nesterov=true")) != known_by


def test_another_way_to_say_the_same_is_the_same_job():
    said = ("model.hidden_size=128", "data.split_seed=1", "optimizer.lr=0.0040", "seed=1")
    beside = ("logger=csv", "sweep=mine", "tags=[a]", "name=mine", "hydra.run.dir=elsewhere")
    known_by = fingerprint(composed(*BASE))
    assert fingerprint(composed(*BASE, *said, *beside)) == known_by
    assert fingerprint(composed(*BASE, "seed=2")) != known_by


def test_one_batch_is_not_all_batches(configs):
    one, whole = (
        configs[0].model_copy(
            update={"trainer": configs[0].trainer.model_copy(update={"limit_val_batches": limit})}
        )
        for limit in (1, 1.0)
    )
    assert fingerprint(one) != fingerprint(whole)


def test_the_folder_bears_model_seed_and_fingerprint():
    config = composed_with_hydra(*BASE, "seed=3")
    known_by = fingerprint(composed(*BASE, "seed=3"))
    assert job_dir(config) == config.hydra.sweep.subdir == f"gru_seed3_{known_by[:8]}"


@pytest.mark.parametrize("override", ["model.hidden_size=-1", "seed=${nowhere}", "seed=???"])
def test_an_impossible_config_has_a_folder_too(override):
    """Its job fails there, and says why: the resolver must not."""
    config = composed_with_hydra(*BASE, override)
    assert config.hydra.sweep.subdir == job_dir(config)
    assert config_fingerprint(config) != fingerprint(composed(*BASE))


@pytest.mark.parametrize("name", [None, "mine", "2024", "lr-coarse"])
def test_a_sweep_has_its_folder_under_runs(name):
    config = composed_with_hydra(*BASE, f"sweep={'null' if name is None else name}")
    folder = OmegaConf.select(config, "hydra.sweep.dir")
    assert folder.startswith("runs/")
    assert folder.endswith("_sweep") if name is None else folder == f"runs/{name}"


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp", "", ".hidden", "a/b"])
def test_a_sweep_stays_under_runs(name):
    with pytest.raises(ConfigError, match="sweep="):
        validate(RunConfig, composed(*BASE).model_dump() | {"sweep": name})
