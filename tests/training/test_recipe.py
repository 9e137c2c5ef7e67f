import math

import pytest

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.training.config import RunConfig
from rnn_lab.training.recipe import print_recipe, resolve_recipe, warn_unused_options
from rnn_lab.training.spec import RunSpec
from rnn_lab.validation import validate
from tests.cli.runner import PROJECT
from tests.training.small_trainer import OPTIONS

AUTO_MODEL = dict.fromkeys(("pooling", "bidirectional", "ngrams", "ngram_buckets"), "auto")


def own_texts(
    tmp_path, examples: int, classes: int = 2, rare: int = 0, words: int = 0, **options
) -> dict:
    more = " and" * words
    rows = [f"word{i} word{i % 7} word{i % classes}{more},{i % classes}" for i in range(examples)]
    rows += [f"rare{i} word,rare" for i in range(rare)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows]))
    path, cache = str(tmp_path / "mine.csv"), str(tmp_path / "cache")
    return {"source": "files", "train_path": path, "cache_dir": cache} | options


def as_given(data: dict, **trainer) -> RunConfig:
    model = OPTIONS["model"] | AUTO_MODEL
    return validate(RunConfig, OPTIONS | {"data": data, "model": model, "trainer": trainer})


def resolve(data: dict, **trainer) -> tuple[RunConfig, TextDataModule]:
    config = as_given(data, **trainer)
    module = TextDataModule(config.data)
    module.setup()
    return resolve_recipe(config, module), module


@pytest.mark.parametrize(("examples", "fewest", "most"), [(150, 200, 800), (3_000, 400, 1_000)])
def test_few_texts_are_read_often_enough(tmp_path, examples, fewest, most):
    config, data = resolve(own_texts(tmp_path, examples))
    steps = math.ceil(len(data.splits["train"]) / data.config.batch_size)
    assert fewest <= steps * config.trainer.max_epochs <= most
    assert config.trainer.patience >= 3


def test_long_texts_are_read_less_often(tmp_path):
    config, data = resolve(own_texts(tmp_path, 400, words=900))
    lengths = data.splits["train"].lengths
    assert len(lengths) == 288 and lengths.min() > 900
    assert 20 < config.trainer.max_epochs < 30
    assert config.trainer.max_epochs * lengths.sum() < 6_500_000


def test_own_texts_are_read_in_both_directions_beside_their_ngrams(tmp_path):
    config, _ = resolve(own_texts(tmp_path, 150))
    model = config.model
    assert (model.pooling, model.bidirectional, model.ngrams) == ("max", True, 2)


def test_the_ngrams_of_few_texts_hardly_collide(tmp_path):
    config, data = resolve(own_texts(tmp_path, 600))
    tokens = data.splits["train"].lengths.sum()
    assert 4 * tokens < config.model.ngram_buckets <= 8 * tokens


def test_the_weights_of_ngrams_stay_few_with_many_classes(tmp_path):
    config, data = resolve(own_texts(tmp_path, 600, classes=60))
    assert config.model.ngram_buckets * data.num_classes <= 2**23


def test_imdb_and_the_demo_keep_their_recipe(tmp_path):
    data = {"source": "demo", "num_train": 200, "num_test": 50, "cache_dir": str(tmp_path)}
    config, module = resolve(data)
    assert (config.model.pooling, config.model.bidirectional, config.model.ngrams) == (
        "last",
        False,
        0,
    )
    assert (config.trainer.max_epochs, config.trainer.patience) == (3, None)
    assert config.trainer.monitor == "val/accuracy"
    assert (module.config.max_length, module.config.batch_size) == (400, 64)


def test_what_is_given_is_kept(tmp_path):
    config, _ = resolve(own_texts(tmp_path, 150), max_epochs=2, patience=None)
    assert (config.trainer.max_epochs, config.trainer.patience) == (2, None)
    config, _ = resolve(own_texts(tmp_path, 150), monitor="val/loss")
    assert config.trainer.monitor == "val/loss"


def test_every_option_that_is_chosen_is_printed_and_on_the_page(tmp_path, capsys):
    texts = own_texts(tmp_path, 150)
    config, data = resolve(texts)
    capsys.readouterr()
    print_recipe(as_given(texts), config, data)
    _, _, chosen = capsys.readouterr().out.partition(": ")
    names = [option.partition("=")[0] for option in chosen.split()]
    assert names == [
        *("data.tokenizer", "data.max_vocab_size", "data.max_length", "data.truncation_side"),
        *("data.val_split", "data.batch_size"),
        *("model.bidirectional", "model.pooling", "model.ngrams", "model.ngram_buckets"),
        *("trainer.max_epochs", "trainer.monitor", "trainer.patience"),
    ]
    page = (PROJECT / "docs" / "own_texts.md").read_text(encoding="utf-8")
    names.remove("model.ngram_buckets")  # how many weights n-grams share is left to conf/model
    assert [name for name in names if f"`{name}`" not in page] == []


def test_a_language_model_has_no_options_of_a_classifier(tmp_path, capsys, caplog):
    data = own_texts(tmp_path, 150)
    for objective in ("classification", "language_model"):
        options = OPTIONS | {"data": data, "model": OPTIONS["model"] | AUTO_MODEL, "trainer": {}}
        config = validate(RunConfig, options | {"objective": {"name": objective}})
        module = TextDataModule(config.data, use_labels=not config.is_language_model)
        module.setup()
        print_recipe(config, resolve_recipe(config, module), module)
        given = ("model=gru", "model.pooling=max", "model.ngrams=2", "model.hidden_size=8")
        warn_unused_options(RunSpec(config, tmp_path, raw_overrides=given))
    classifier, language_model = capsys.readouterr().out.splitlines()
    assert "model.pooling=max" in classifier and "model.ngrams=2" in classifier
    assert "model.bidirectional=true" in language_model
    assert "model.pooling" not in language_model and "model.ngram" not in language_model
    assert caplog.messages == [
        "model.pooling=max model.ngrams=2: no effect with objective=language_model"
    ]


@pytest.mark.parametrize(("rare", "monitor"), [(15, "val/f1"), (70, "val/accuracy")])
def test_uneven_classes_are_validated_by_macro_f1(tmp_path, rare, monitor):
    config, _ = resolve(own_texts(tmp_path, 150, rare=rare))  # beside 75 texts of two classes
    assert config.trainer.monitor == monitor
    assert config.trainer.monitored_mode == "max"
