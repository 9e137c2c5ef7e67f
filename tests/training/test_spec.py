"""The fingerprint of a run covers every option that decides its metrics, and no other."""

import types
from typing import Annotated, Union, get_args, get_origin

import pytest

from rnn_lab.data.config import TextOptions
from rnn_lab.data.sources.registry import SOURCES
from rnn_lab.models.config import ModelConfig
from rnn_lab.training.config import RunConfig
from rnn_lab.training.spec import config_fingerprint
from rnn_lab.validation import FINGERPRINT_EXCLUDED, StrictConfig
from tests.test_conf import composed

# Every option that changes the result of a run. An option is either here or FINGERPRINT_EXCLUDED.
COVERED = {
    "seed",
    *(f"model.{name}" for name in ("name", "embedding_dim", "hidden_size", "num_layers")),
    *(f"model.{name}" for name in ("bidirectional", "dropout", "word_dropout", "pooling")),
    *("model.variational_dropout", "trainer.label_smoothing", "trainer.ema_decay"),
    *("model.ngram_weighting", "trainer.calibrate", "trainer.freeze_pretrained_epochs"),
    *(f"objective.{name}" for name in ("name", "num_sampled", "eval_stride")),
    *(f"model.{name}" for name in ("forget_bias", "reset_after", "ngrams", "ngram_buckets")),
    "model.init_from",
    *(f"optimizer.{name}" for name in ("name", "lr", "weight_decay")),
    *("optimizer.sparse_embedding", "optimizer.vectors_lr_factor", "optimizer.layer_lr_decay"),
    *(f"data.{name}" for name in ("vectors", "vectors_epochs", "vectors_window", "unlabelled")),
    *(f"scheduler.{name}" for name in ("name", "warmup_ratio")),
    *(
        f"data.{name}"
        for name in ("source", "tokenizer", "max_vocab_size", "min_freq", "max_length")
    ),
    *(f"data.{name}" for name in ("truncation_side", "val_fraction", "split_seed", "train_size")),
    *(f"data.{name}" for name in ("drop_duplicates", "class_weights", "weighted_sampling")),
    *(f"data.{name}" for name in ("batch_size", "max_tokens_per_batch", "eval_batch_size")),
    *(f"data.{name}" for name in ("val_split", "num_train", "num_test", "data_seed")),
    *(
        f"data.{name}"
        for name in ("distance", "train_path", "val_path", "test_path", "test_fraction")
    ),
    *(f"data.{name}" for name in ("group_column", "folds", "fold")),
    *(f"data.{name}" for name in ("text_column", "format", "header", "columns", "delimiter")),
    "data.quotechar",
    *(
        "data.label_separator",
        "data.corpus",
        "data.unlabelled_batch_size",
        "data.unlabelled_text_column",
    ),
    *("data.teacher", "data.teacher_threshold"),
    *(f"loss.{name}" for name in ("adversarial", "virtual_adversarial", "entropy", "r_drop")),
    "loss.epsilon",
    *(f"data.{name}" for name in ("label_column", "class_names", "encoding", "on_bad_lines")),
    *(f"trainer.{name}" for name in ("accelerator", "devices", "strategy", "num_nodes")),
    *(f"trainer.{name}" for name in ("precision", "max_epochs", "gradient_clip_val")),
    *(f"trainer.{name}" for name in ("accumulate_grad_batches", "monitor", "patience")),
    *(f"trainer.limit_{split}_batches" for split in ("train", "val", "test")),
    *("trainer.log_every_n_steps", "trainer.gradient_flow"),  # what the run writes
    *("train", "test", "ckpt_path", "callbacks", "metrics", "trainer.monitor_mode"),
    *(f"trainer.{name}" for name in ("fast_dev_run", "overfit_batches", "max_time")),
    *(f"trainer.{name}_{what}" for name in ("min", "max") for what in ("epochs", "steps")),
    *("trainer.val_check_interval", "trainer.check_val_every_n_epoch"),
    *("trainer.gradient_clip_algorithm", "trainer.deterministic", "trainer.benchmark"),
    *("trainer.detect_anomaly", "trainer.sync_batchnorm"),
    "trainer.reload_dataloaders_every_n_epochs",
}

BASE = ("data=demo", "model=gru")


def _is_built_in(config_class: type) -> bool:
    """Return whether it is not one that another test of this process registered."""
    return config_class.__module__.startswith("rnn_lab.")


def options_of(kind) -> set[str]:
    """Return the dotted options under `kind`; of a union, those of all its members."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return set().union(*(options_of(one) for one in get_args(kind)))
    if not (isinstance(kind, type) and issubclass(kind, StrictConfig)):
        return set()
    if kind is TextOptions:  # which any registered source may extend
        return set().union(
            *(
                options_of(SOURCES[name].config)
                for name in SOURCES
                if _is_built_in(SOURCES[name].config)
            )
        )
    names = set()
    if kind is ModelConfig:
        names = names.union(*(options_of(c) for c in kind.__subclasses__() if _is_built_in(c)))
    for name, field in kind.model_fields.items():
        inner = set() if name in FINGERPRINT_EXCLUDED else options_of(field.annotation)
        names |= {f"{name}.{deeper}" for deeper in inner} or {name}
    return names


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
    """Return a config of every source, so that each option is in one of them."""
    files = ("data=files", "data.train_path=mine.csv")
    choices = (BASE, ("data=imdb", "model=lstm"), ("data=long_range",), files)
    return [composed(*overrides) for overrides in choices]


def with_another(config: RunConfig, option: str) -> RunConfig | None:
    """Return `config` with another value of that option; None if it has no such option."""
    group, _, name = option.rpartition(".")
    part = getattr(config, group) if group else config
    if name not in type(part).model_fields:
        return None
    changed = part.model_copy(update={name: "another"})
    return config.model_copy(update={group: changed}) if group else changed


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_each_option_changes_the_fingerprint_or_not(configs):
    fingerprints = [config_fingerprint(config) for config in configs]
    for option in COVERED | FINGERPRINT_EXCLUDED:
        changed = [with_another(config, option) for config in configs]
        for before, config in zip(fingerprints, changed, strict=True):
            if config is not None:
                assert (config_fingerprint(config) == before) is (option in FINGERPRINT_EXCLUDED), (
                    option
                )


def test_same_options_in_other_words_have_the_same_fingerprint():
    same = ("model.hidden_size=128", "data.split_seed=1", "optimizer.lr=0.0040", "seed=1")
    excluded = ("logger=csv", "sweep=mine", "tags=[a]", "name=mine", "hydra.run.dir=elsewhere")
    fingerprint = config_fingerprint(composed(*BASE))
    assert config_fingerprint(composed(*BASE, *same, *excluded)) == fingerprint
    assert config_fingerprint(composed(*BASE, "seed=2")) != fingerprint


def test_one_batch_is_not_all_batches(configs):
    one, whole = (
        configs[0].model_copy(
            update={"trainer": configs[0].trainer.model_copy(update={"limit_val_batches": limit})}
        )
        for limit in (1, 1.0)
    )
    assert config_fingerprint(one) != config_fingerprint(whole)
