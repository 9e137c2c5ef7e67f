"""A result.json is enough to compose its run, and its values are plain numbers and strings."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from omegaconf import OmegaConf

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.vocabulary import SPECIALS, WordTokenizer
from rnn_lab.errors import CheckpointError, ConfigError, DataError
from rnn_lab.training.artifacts import (
    describe_data,
    describe_pseudo_labels,
    describe_unlabelled,
)
from rnn_lab.training.config import RunConfig
from rnn_lab.training.reproduce import check_same_data, collapse, expand, read_run_record
from rnn_lab.validation import FINGERPRINT_EXCLUDED, flatten
from tests.test_conf import composed

RUNS = {
    "defaults": ("data=demo",),
    "lstm": ("model=lstm", "data=imdb", "model.bidirectional=true", "model.forget_bias=null"),
    "rows": ("data=demo", "optimizer.sparse_embedding=true", "data.max_tokens_per_batch=16384"),
    "tutorial": ("experiment=tutorial", "data=imdb", "data.val_split=random", "seed=7"),
    "long_range": ("experiment=long_range", "model=rnn", "trainer.max_epochs=2"),
    "smoke": ("experiment=smoke", "optimizer=sgd", "optimizer.lr=1e-5", "scheduler=cosine"),
    "bpe": ("data=demo", "data.tokenizer=bpe", "trainer.limit_train_batches=10"),
    "ddp": ("data=demo", "trainer=ddp_cpu", "data.max_vocab_size=null"),
    "files": (
        *("data=files", r"data.train_path='it\'s [a], {b}/mine.csv'"),
        *(
            "data.class_names=['no, never','yes \\\\']",
            "data.label_column='a=b'",
            "data.test_path=t.csv",
        ),
    ),
    "vectors": ("data=imdb", "data.vectors=skipgram", "data.unlabelled=true"),
    "losses": ("data=imdb", "loss=mixed", "loss.epsilon=2.5", "data.unlabelled=true"),
    "student": ("data=imdb", "data.unlabelled=true", "data.teacher=[runs/a,runs/b]"),
    "vectors of a file": ("data=demo", "data.vectors='~/my vectors.vec'", "model=rnn"),
    "another run": ("data=demo", "model.init_from=/runs/first"),
    "an optimizer without a file": (
        *("model=rnn", "model.name=peephole_lstm", "model.hidden_size=4"),
        *("optimizer.name=adagrad", "+optimizer.initial_accumulator_value=0.1"),
    ),
}


def write_result(folder: Path, config: RunConfig, **changes: Any) -> Path:
    """Write the options of a run as its result.json has them."""
    options = config.model_dump(mode="json")
    groups = ("seed", "model", "loss", "optimizer", "scheduler")
    result = {"schema_version": 3} | {name: options[name] for name in groups}
    result |= {"data": {"name": "some", "options": options["data"]}, "trainer": options["trainer"]}
    result["model"]["parameters"] = 1234
    path = folder / "result.json"
    path.write_text(json.dumps(result | changes))
    return path


def signature(config: RunConfig) -> dict[str, Any]:
    """Return the options that decide the metrics, flat."""
    options = flatten(config.model_dump(exclude=set(FINGERPRINT_EXCLUDED)))
    return {name: value for name, value in options.items() if name not in FINGERPRINT_EXCLUDED}


@pytest.mark.parametrize("name", sorted(RUNS))
def test_every_option_that_decides_metrics_is_reproduced(tmp_path, name):
    config = composed(*RUNS[name])
    path = write_result(tmp_path, config)
    again = composed(*expand([f"reproduce={tmp_path}", "logger=none", "data.cache_dir=here"]))
    assert signature(again) == signature(config)
    assert (again.reproduce, again.logger.name, again.data.cache_dir) == (str(path), "none", "here")


@pytest.mark.parametrize(
    "argument",
    [
        *(
            "model.hidden_size=32",
            "seed=2",
            "++data.max_length=5",
            "~trainer.patience",
            "model=lstm",
        ),
        *("experiment=smoke", "search=gru", "trial.number=1", "data=imdb", "trainer=cpu"),
        *("data.val_split=random", "trainer.max_epochs=9", "+data.train_path=x.csv"),
    ],
)
def test_argument_that_would_change_a_metric_is_refused(tmp_path, argument):
    path = write_result(tmp_path, composed("experiment=smoke"))
    with pytest.raises(ConfigError) as refused:
        expand([f"reproduce={path}", argument])
    assert str(refused.value).startswith(f"{argument}: is taken from {path}")


def test_baseline_and_plots_are_those_of_the_run_folder(tmp_path):
    config = composed("data=demo", "baseline=none", "plots=false")
    write_result(tmp_path, config)
    (tmp_path / ".hydra").mkdir()
    saved = OmegaConf.create(config.model_dump(mode="json"))
    OmegaConf.save(saved, tmp_path / ".hydra" / "config.yaml")
    again = composed(*expand([f"reproduce={tmp_path}"]))
    assert (again.baseline, again.plots) == ("none", False)
    again = composed(*expand([f"reproduce={tmp_path}", "baseline=tfidf", "plots=true"]))
    assert (again.baseline, again.plots) == ("tfidf", True)
    (tmp_path / "alone").mkdir()
    write_result(tmp_path / "alone", config)
    again = composed(*expand([f"reproduce={tmp_path}/alone"]))
    assert (again.baseline, again.plots) == ("auto", True)


def test_paths_of_texts_and_hardware_may_be_given(tmp_path):
    write_result(
        tmp_path, composed("data=files", "data.train_path=then.csv", "trainer.accelerator=cpu")
    )
    given = ["data.train_path=now.csv", "data.test_path=test.csv", "trainer.accelerator=gpu"]
    config = composed(*expand([f"reproduce={tmp_path}", *given]))
    assert (config.data.train_path, config.data.test_path) == ("now.csv", "test.csv")
    assert config.trainer.accelerator == "gpu"


def test_paths_of_initial_weights_may_be_given_where_the_run_had_some(tmp_path):
    skipgram = ("data=imdb", "data.vectors=skipgram", "data.unlabelled=then.txt")
    for options, given in (
        (("data=demo", "model.init_from=then"), "model.init_from=now"),
        (("data=demo", "data.vectors=then.vec"), "data.vectors=now.vec"),
        (skipgram, "data.unlabelled=now.txt"),
        (("data=imdb", "data.unlabelled=true", "data.teacher=then"), "data.teacher=now"),
    ):
        write_result(tmp_path, composed(*options))
        config = composed(*expand([f"reproduce={tmp_path}", given]))
        group, name = given.partition("=")[0].split(".")
        assert getattr(getattr(config, group), name) == given.partition("=")[2]
        write_result(tmp_path, composed("data=demo"))
        with pytest.raises(ConfigError, match="is taken from"):
            expand([f"reproduce={tmp_path}", given])


def test_command_is_collapsed_and_expands_to_the_same(tmp_path):
    path = write_result(tmp_path, composed("data=demo"))
    expanded = expand([f"reproduce={tmp_path}", "logger=none"])
    assert collapse(expanded) == [f"reproduce={path}", "logger=none"]
    assert expand(collapse(expanded)) == expanded
    assert collapse(["model=gru", "seed=2"]) == ["model=gru", "seed=2"]


UNTRUSTED = {
    "reference": ({"data.text_column": "${oc.env:HOME}"}, "data.text_column: holds a reference"),
    "target": ({"model._target_": "os.system"}, "model: names code to run, which is refused"),
    "profiler": (
        {"trainer.profiler": {"_target_": "os.system", "command": "true"}},
        "trainer: names code to run, which is refused",
    ),
    "wrong type": ({"model.hidden_size": "many"}, "model.hidden_size=many"),
    "impossible": ({"optimizer.lr": -1}, "optimizer.lr=-1"),
    "list": ({"model.hidden_size": [1, 2]}, "model.hidden_size"),
    "sweep": ({"seed": "1,2,3"}, "seed=1,2,3"),
    "no seed": ({"seed": None}, "seed=null"),
    "choice": ({"data.class_names": "choice(a,b)"}, "data.class_names"),
    "group": ({"model.name": "gru,lstm"}, "model.name=gru,lstm: no such cell"),
}


@pytest.mark.parametrize("name", sorted(UNTRUSTED))
def test_untrusted_file_is_refused_in_one_line(tmp_path, name):
    changes, message = UNTRUSTED[name]
    path = write_result(tmp_path, composed("data=files", "data.train_path=mine.csv"))
    result = json.loads(path.read_text())
    for option, value in changes.items():
        *groups, last = option.split(".")
        part = result
        for group in groups:
            part = part[group]["options"] if group == "data" else part[group]
        part[last] = value
    path.write_text(json.dumps(result))
    with pytest.raises(CheckpointError) as refused:
        expand([f"reproduce={path}"])
    assert str(refused.value).startswith(f"{path}: {message}")
    assert len(str(refused.value).splitlines()) == 1


def test_a_result_without_the_group_of_losses_has_the_cross_entropy_alone(tmp_path):
    path = write_result(tmp_path, composed("data=demo"))
    result = json.loads(path.read_text())
    del result["loss"]
    path.write_text(json.dumps(result))
    assert read_run_record(str(path)).config.loss.is_cross_entropy


def test_other_unlabelled_texts_are_refused(tmp_path):
    (tmp_path / "more.txt").write_text("a good film\na dull film")
    options = DemoConfig(
        num_train=60, num_test=20, cache_dir=str(tmp_path), unlabelled=str(tmp_path / "more.txt")
    )
    data = TextDataModule(options, train_unlabelled=True)
    data.setup()
    same = describe_data(data) | describe_unlabelled(data)
    write_result(tmp_path, composed("data=demo", "loss=mixed"), data=same)
    check_same_data(str(tmp_path), data)
    other = same | {"unlabelled": same["unlabelled"] | {"fingerprint": "0123"}}
    write_result(tmp_path, composed("data=demo", "loss=mixed"), data=other)
    with pytest.raises(DataError, match=r"other unlabelled texts \(fingerprint 0123, here"):
        check_same_data(str(tmp_path), data)


class Certain:
    """A teacher that gives every text its first class."""

    class_names = "negative", "positive"
    key: ClassVar = {"name": "certain"}

    def probabilities(self, encode):
        texts = encode(WordTokenizer([*SPECIALS, "a"]))
        return np.tile(np.array([0.9, 0.1], np.float32), (len(texts), 1))


def test_other_pseudo_labels_are_refused(tmp_path):
    (tmp_path / "more.txt").write_text("a good film\na dull film")
    unlabelled = {"unlabelled": str(tmp_path / "more.txt"), "teacher": "run"}
    options = DemoConfig(num_train=60, num_test=20, cache_dir=str(tmp_path), **unlabelled)
    data = TextDataModule(options, teacher=Certain())
    data.setup()
    same = describe_data(data) | describe_pseudo_labels(data)
    config = composed("data=demo", "data.unlabelled=more.txt", "data.teacher=run")
    write_result(tmp_path, config, data=same)
    check_same_data(str(tmp_path), data)
    other = same | {"pseudo_labels": same["pseudo_labels"] | {"fingerprint": "0123"}}
    write_result(tmp_path, config, data=other)
    with pytest.raises(DataError, match=r"other pseudo-labels \(fingerprint 0123, here"):
        check_same_data(str(tmp_path), data)


def test_strings_stay_strings(tmp_path):
    """None is read by Hydra's grammar."""
    texts = [
        "a,b",
        "range(1,5)",
        "[1]",
        "{a:b}",
        "$HOME",
        "'",
        "\\'",
        "\\\\",
        "a\nb",
        "null",
        "3",
        "\0",
    ]
    config = composed("data=files", "data.train_path=mine.csv")
    changed = config.data.model_copy(update={"train_path": "'{a}\\", "class_names": texts})
    write_result(tmp_path, config.model_copy(update={"data": changed}))
    again = composed(*expand([f"reproduce={tmp_path}"]))
    assert (again.data.train_path, again.data.class_names) == ("'{a}\\", texts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("[1]", "expected an object"),
        ('{"model": ', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"seed": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"checkpoint": "best.ckpt"}', "of a test by eval.py"),
        ('{"schema_version": 3, "seed": 1, "model": {}}', "has no 'optimizer'"),
        (" " * 2**21, "not a result.json"),
    ],
    ids=["empty", "list", "cut", "deep", "digits", "test", "incomplete", "large"],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_run_record(str(tmp_path))


def test_missing_run_is_refused_in_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_run_record(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("version", "has"),
    [
        *((2, "schema_version 2;"), (4, "schema_version 4;"), ("3", "schema_version '3';")),
        *((None, "no schema_version;"), ([2] * 99, "schema_version [2, 2,"), (True, "schema_")),
    ],
)
def test_other_schema_version_is_refused_by_name(tmp_path, version, has):
    path = write_result(tmp_path, composed("data=demo"), schema_version=version)
    with pytest.raises(CheckpointError) as refused:
        expand([f"reproduce={tmp_path}"])
    (line,) = str(refused.value).splitlines()
    assert len(line) < 1000 and line.startswith(f"{path}: has {has}")
    assert line.endswith("; this version of rnn-lab reads schema_version 3")


def test_callbacks_plugins_and_metrics_come_from_the_command_line_alone(tmp_path):
    """The file says which the run had; naming code is up to the user."""
    path = write_result(
        tmp_path,
        composed("data=demo"),
        **{"callbacks": {"x": "os.system"}, "metrics": {"y": "os.system"}, "plugins": ["os"]},
    )
    config = composed(*expand([f"reproduce={path}"]))
    assert (config.callbacks, config.metrics, config.plugins) == ({}, {}, ())
    timer = "lightning.pytorch.callbacks.Timer"
    config = composed(*expand([f"reproduce={path}", f"+callbacks.timer={{_target_: {timer}}}"]))
    assert config.callbacks == {"timer": {"_target_": timer}}
