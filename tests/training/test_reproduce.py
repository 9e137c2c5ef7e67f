"""A result.json is enough to compose its run, and nothing in it is more than a number or a name."""

import json
from pathlib import Path
from typing import Any

import pytest

from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.training.config import RunConfig
from rnn_lab.training.reproduce import as_given, expand, read_run_record
from rnn_lab.validation import FINGERPRINT_EXCLUDED, flatten
from tests.test_conf import composed

RUNS = {
    "defaults": ("data=demo",),
    "lstm": ("model=lstm", "data=imdb", "model.bidirectional=true", "model.forget_bias=null"),
    "rows": ("data=demo", "optimizer.embedding_gradient=rows", "data.max_tokens_per_batch=16384"),
    "tutorial": ("experiment=tutorial", "data=imdb", "data.validation=random", "seed=7"),
    "long_range": ("experiment=long_range", "model=rnn", "trainer.max_epochs=2"),
    "smoke": ("experiment=smoke", "optimizer=sgd", "optimizer.lr=1e-5", "scheduler=cosine"),
    "bpe": ("data=demo", "data.tokenizer=bpe", "trainer.limit_train_batches=10"),
    "ddp": ("data=demo", "trainer=ddp_cpu", "data.max_vocab_size=null"),
    "files": (
        *("data=files", r"data.train='it\'s [a], {b}/mine.csv'"),
        *(
            "data.class_names=['no, never','yes \\\\']",
            "data.label_column='a=b'",
            "data.test=t.csv",
        ),
    ),
}


def written(folder: Path, config: RunConfig, **changes: Any) -> Path:
    """The result.json that a run of that config leaves, as far as its options go."""
    options = config.model_dump(mode="json")
    result = {name: options[name] for name in ("seed", "model", "optimizer", "scheduler")}
    result |= {"data": {"name": "some", "options": options["data"]}, "trainer": options["trainer"]}
    result["model"]["parameters"] = 1234
    path = folder / "result.json"
    path.write_text(json.dumps(result | changes))
    return path


def deciding(config: RunConfig) -> dict[str, Any]:
    options = flatten(config.model_dump(exclude=set(FINGERPRINT_EXCLUDED)))
    return {name: value for name, value in options.items() if name not in FINGERPRINT_EXCLUDED}


@pytest.mark.parametrize("name", sorted(RUNS))
def test_every_option_that_decides_comes_back(tmp_path, name):
    config = composed(*RUNS[name])
    path = written(tmp_path, config)
    again = composed(*expand([f"reproduce={tmp_path}", "logger=none", "data.cache_dir=here"]))
    assert deciding(again) == deciding(config)
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
        *("data.validation=random", "trainer.max_epochs=9", "+data.train=x.csv"),
    ],
)
def test_what_would_change_a_figure_is_refused_by_name(tmp_path, argument):
    path = written(tmp_path, composed("experiment=smoke"))
    with pytest.raises(ConfigError) as refused:
        expand([f"reproduce={path}", argument])
    assert str(refused.value).startswith(f"{argument}: is taken from {path}")


def test_where_texts_lie_and_where_it_trains_may_be_said(tmp_path):
    written(tmp_path, composed("data=files", "data.train=then.csv", "trainer.accelerator=cpu"))
    given = ["data.train=now.csv", "data.test=test.csv", "trainer.accelerator=gpu"]
    config = composed(*expand([f"reproduce={tmp_path}", *given]))
    assert (config.data.train, config.data.test) == ("now.csv", "test.csv")
    assert config.trainer.accelerator == "gpu"


def test_the_command_of_a_run_again_is_short_and_may_be_given_again(tmp_path):
    path = written(tmp_path, composed("data=demo"))
    expanded = expand([f"reproduce={tmp_path}", "logger=none"])
    assert as_given(expanded) == [f"reproduce={path}", "logger=none"]
    assert expand(as_given(expanded)) == expanded
    assert as_given(["model=gru", "seed=2"]) == ["model=gru", "seed=2"]


STRANGERS = {
    "reference": ({"data.text_column": "${oc.env:HOME}"}, "data.text_column: holds a reference"),
    "target": ({"model._target_": "os.system"}, "model._target_: no such option"),
    "wrong type": ({"model.hidden_size": "many"}, "model.hidden_size=many"),
    "impossible": ({"optimizer.lr": -1}, "optimizer.lr=-1"),
    "list": ({"model.hidden_size": [1, 2]}, "model.hidden_size"),
    "sweep": ({"seed": "1,2,3"}, "seed=1,2,3"),
    "no seed": ({"seed": None}, "seed=None"),
    "choice": ({"data.class_names": "choice(a,b)"}, "data.class_names"),
    "group": ({"model.name": "gru,lstm"}, "model.name=gru,lstm: impossible value"),
}


@pytest.mark.parametrize("name", sorted(STRANGERS))
def test_a_strangers_file_is_one_line(tmp_path, name):
    changes, said = STRANGERS[name]
    path = written(tmp_path, composed("data=files", "data.train=mine.csv"))
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
    assert str(refused.value).startswith(f"{path}: {said}")
    assert len(str(refused.value).splitlines()) == 1


def test_strings_are_only_strings(tmp_path):
    """Whatever Hydra's grammar would make of them."""
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
    config = composed("data=files", "data.train=mine.csv")
    changed = config.data.model_copy(update={"train": "'{a}\\", "class_names": texts})
    written(tmp_path, config.model_copy(update={"data": changed}))
    again = composed(*expand([f"reproduce={tmp_path}"]))
    assert (again.data.train, again.data.class_names) == ("'{a}\\", texts)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("[1]", "expected an object"),
        ('{"model": ', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"seed": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"checkpoint": "best.ckpt"}', "of a test by eval.py"),
        ('{"seed": 1, "model": {}}', "has no 'optimizer'"),
        (" " * 2**21, "not a result.json"),
    ],
    ids=["empty", "list", "cut", "deep", "digits", "test", "old", "large"],
)
def test_what_is_no_result_of_a_training_is_one_line(tmp_path, content, said):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(CheckpointError, match=said):
        read_run_record(str(tmp_path))


def test_a_place_without_a_run_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_run_record(str(tmp_path / "nowhere"))
