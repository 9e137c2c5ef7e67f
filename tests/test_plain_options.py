"""A command line that is read without Hydra gives the options that Hydra composes."""

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import rnn_lab.cli  # noqa: F401  it registers the resolvers of conf
from rnn_lab.command_line import take_text_literally
from rnn_lab.paths import conf_dir
from rnn_lab.plain_options import plain_options

NAMES = {"text": ["text"], "paths": ["run", "device"], "numbers": ["top_k"]}


def composed(*arguments: str) -> dict:
    """The options as `rnn-lab predict` composes them with Hydra; the text is not among them."""
    GlobalHydra.instance().clear()
    overrides = take_text_literally(arguments, "predict")
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return OmegaConf.to_container(hydra.compose("predict", overrides), resolve=True)


def test_every_option_has_the_default_of_its_file():
    assert plain_options("predict", ["run=x"], **NAMES) == composed("run=x")


@settings(max_examples=60, deadline=None)
@given(st.text("aZ_/.~-0 19=,'$é", max_size=8))
@example("../runs/gru-2/model.onnx")
@example("./model.onnx")
@example("~/runs/gru")
@example("null")
@example("True")
@example(".5")
@example("/1e3")
@example("..")
def test_a_path_that_it_reads_is_the_one_that_hydra_reads(path):
    read = plain_options("predict", [f"run={path}"], **NAMES)
    assert read is None or read == composed(f"run={path}")


@pytest.mark.parametrize(
    "value", ["1", "30", "0", "-1", "007", "1.0", "1e3", "true", "999999999999"]
)
def test_a_number_that_it_reads_is_the_one_that_hydra_reads(value):
    read = plain_options("predict", [f"top_k={value}"], **NAMES)
    assert (read is not None) == (value in ("1", "30"))
    assert read is None or read == composed(f"top_k={value}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run=a", "run=b"],
        ["run=a", "--help"],
        ["run=a", "-m"],
        ["+run=a"],
        ["run"],
        ["input=a.csv"],
        ["hydra.verbose=true"],
        ["plugins=[my_cell]"],
    ],
)
def test_everything_else_is_left_to_hydra(arguments):
    assert plain_options("predict", arguments, **NAMES) is None


def test_a_text_is_taken_literally():
    text = "null, ${oc.env:HOME} 'and' text=\"more\""
    assert plain_options("predict", [f"text={text}"], **NAMES) == composed() | {"text": text}
