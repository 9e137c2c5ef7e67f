"""A run with a schedule and a data source of a plugin is used without that plugin."""

import json
from pathlib import Path

import pytest

from tests.cli.forked import run_warm_command

PLUGIN = """
import random

from rnn_lab.data import Corpus, Split, TextOptions, register_source
from rnn_lab.models import register_schedule


@register_schedule("half")
def half(progress, warmup_ratio, floor=0.5):
    return floor


class PairsOptions(TextOptions):
    size: int = 200


@register_source("pairs", PairsOptions)
def load_pairs(options):
    def split(seed):
        labels = random.Random(seed).choices((0, 1), k=options.size)
        texts = [f"a {('poor', 'good')[label]} film {i}" for i, label in enumerate(labels)]
        return Split(texts=texts, labels=labels)

    return Corpus(name="pairs", class_names=("neg", "pos"), train=split(0), test=split(1))
"""


def command(cwd: Path, name: str, *options: str) -> tuple[int, str, str]:
    """Return the exit status of `rnn-lab <name> <options>`, its output and its errors."""
    done = run_warm_command("rnn_lab/commands.py", name, *options, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the plugin `own_parts`, and of a `run` that was trained with it."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "own_parts.py").write_text(PLUGIN)
    (folder / "conf" / "data").mkdir(parents=True)
    (folder / "conf" / "data" / "pairs.yaml").write_text("source: pairs\nsize: 200\n")
    code, _, errors = command(
        folder,
        *("train", "--config-dir=conf", "plugins=[own_parts]", "data=pairs", "model=gru"),
        *("scheduler.name=half", "+scheduler.floor=0.25", "experiment=smoke", "plots=false"),
        *("logger=none", "baseline=none", "hydra.run.dir=run"),
    )
    assert code == 0, errors
    return folder


def test_it_predicts_and_is_exported(folder: Path) -> None:
    (folder / "texts.txt").write_text("a good film\na poor film\n")

    def predict(run: str, *options: str) -> str:
        code, printed, errors = command(
            folder, "predict", f"run={run}", "input=texts.txt", *options
        )
        assert code == 0, errors
        return printed

    expected = predict("run", "plugins=[own_parts]")
    assert len(expected.splitlines()) == 2
    assert predict("run") == expected
    code, _, errors = command(folder, "export", "run=run", "output=model.safetensors")
    assert code == 0, errors
    assert predict("model.safetensors") == expected


def test_its_own_test_split_needs_the_plugin(folder: Path) -> None:
    code, printed, errors = command(folder, "eval", "run=run", "plots=false")
    assert (code, printed, errors) == (
        1,
        "",
        "error: run/checkpoints/best.ckpt: its test split needs the plugin that defines "
        "data.source=pairs; load it with plugins=[own_parts], or name the texts to test: "
        "data=files data.test_path=<path>\n",
    )


def test_it_is_tested_on_other_texts(folder: Path) -> None:
    (folder / "test.csv").write_text("text,label\na good film,pos\na poor film,neg\n")
    options = ("data=files", "data.test_path=test.csv", "plots=false", "output_dir=tested")
    code, _, errors = command(folder, "eval", "run=run", *options)
    assert code == 0, errors
    result = json.loads((folder / "tested" / "result.json").read_text())
    assert result["data"]["num_examples"]["test"] == 2
