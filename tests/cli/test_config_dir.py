"""A user's own --config-dir: it works as the built-in conf, and so do its error messages."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import rnn_lab
from rnn_lab.cli import HydraCommand
from rnn_lab.command_line import take_text_literally
from rnn_lab.composition import unknown_option
from rnn_lab.errors import ConfigError
from rnn_lab.paths import conf_dir
from rnn_lab.training.config import parse_run_config
from tests.cli.forked import run_warm_command
from tests.test_conf import composed_options

FILES = {
    "experiment/mine.yaml": """
        # @package _global_
        defaults:
          - override /model: small
          - override /data: demo
        seed: 7
        """,
    "model/small.yaml": "{name: gru, hidden_size: 8, embedding_dim: 8}",
    "experiment/größe.yaml": "# @package _global_\nname: 2024\ntags: [1, true, v2]\n",
    "experiment/home.yaml": """
        # @package _global_
        hydra: {run: {dir: ~/run}, sweep: {dir: ~/sweep}}
        """,
    "experiment/group.yaml": "# @package _global_\ndefaults:\n  - override /modle: gru\n",
    "experiment/choice.yaml": "# @package _global_\ndefaults:\n  - override /model: smal\n",
    "experiment/yaml.yaml": "# @package _global_\nseed: [1,\n",
    "experiment/reference.yaml": "# @package _global_\nname: ${nope}\n",
    "experiment/environment.yaml": "# @package _global_\nname: ${oc.env:NO_SUCH_VARIABLE}\n",
}

PLUGIN = """
from rnn_lab.data import TextOptions, register_source
from rnn_lab.models import register_cell
from rnn_lab.models.cells import RNNCell
from rnn_lab.models.config import ModelConfig

class LeakyConfig(ModelConfig):
    leak: float = 0.5
    epsilon: float = 0.0  # a loss has an option of this name

@register_cell("leaky", LeakyConfig)
class LeakyCell(RNNCell):
    def __init__(self, leak, epsilon):
        pass

class SumsOptions(TextOptions):
    num_sums: int = 100

@register_source("sums", SumsOptions)
def load_sums(options):
    raise AssertionError("options are refused before any text is read")
"""


@pytest.fixture
def compose(tmp_path, monkeypatch, capsys):
    """Run a command with a task that only returns its options, and with the files above."""
    for name, text in FILES.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line[8:] if line[:8].isspace() else line
                                  for line in text.splitlines()))  # fmt: skip
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> dict[str, Any] | str:
        """Return the composed options, or else the one line of the error."""
        composed: list[dict[str, Any]] = []
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        try:
            HydraCommand(composed.append, "train").main()
        except SystemExit as end:
            said = capsys.readouterr()
            assert end.code == (0 if said.out else 1)
            (line,) = (said.out + said.err).splitlines()
            assert composed == []
            return line
        return composed[0]

    return run


def test_experiments_and_models_of_the_user_are_composed_with_the_built_in_ones(compose):
    options = compose("--config-dir=mine", "experiment=mine", "data.num_train=40")
    assert options["seed"] == 7
    model = options["model"]
    assert (model["name"], model["hidden_size"], model["embedding_dim"]) == ("gru", 8, 8)
    assert model["dropout"] == 0.5  # an option of every model
    assert (options["data"]["source"], options["data"]["num_train"]) == ("demo", 40)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"name: caf\xe9", "it is not UTF-8"), (b"name: 'a\x01'", "it has the character #x01")],
)
def test_a_file_that_is_no_text_is_named(compose, tmp_path, content, says):
    path = tmp_path / "mine" / "experiment" / "bytes.yaml"
    path.write_bytes(content)
    error = compose("--config-dir=mine", "experiment=bytes")
    assert error == f"error: {path}: not valid YAML: {says}"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("experiment=mien",),
            "experiment=mien: no such choice. Did you mean mine? Choose from: choice, ",
        ),
        (("model=smal",), "model=smal: no such choice. Did you mean small? Choose from: gru, lstm"),
        (("experiment=choice",), "model=smal: no such choice. Did you mean small? Choose from: "),
        (
            ("experiment=mine", "model.hiden_size=5"),
            "model.hiden_size: no such option. Did you mean hidden_size? "
            "Choose from: bidirectional, dropout, embedding_dim, ",
        ),
        (("experiment=mine", "data.num_trian=5"), "Did you mean num_train?"),
        (("experiment=group",), "modle: no such option. Did you mean model? Choose from: "),
        (("experiment=yaml",), "mine/experiment/yaml.yaml:2: not valid YAML: "),
        (("experiment=reference",), "name: Interpolation key 'nope' not found"),
        (
            ("experiment=long_range", "data=demo"),
            "name needs data.distance: only data=long_range h",
        ),
        (("data=files", "data.num_test=3"), "data.num_test: only data=demo, data=demo_small, "),
        (("metrics={f2:{beta:2}}",), "metrics.f2: no such option; +metrics.f2 adds it"),
        (
            ("loss.brier=2",),
            "loss.brier: no such option; +loss.brier adds another. Choose from: ad",
        ),
        (("plugins=[json]", "model.alpha=3"), "model.alpha: no such option. Choose from: bid"),
        (("trainer.logger=x",), "trainer.logger: is set by the project; use logger=<a file of "),
        (("data=imbd",), "Did you mean imdb? Choose from: auto, demo, files, imdb, long_range\n"),
        (("data.max_epochs=3",), "data.max_epochs: no such option; there is trainer.max_epochs"),
        (("experiment=environment",), "Environment variable 'NO_SUCH_VARIABLE' not found"),
        (("seed=[1,2",), "seed=[1,2: not a valid override: "),
        (
            ("model.name=a:b=c, d",),
            "model.name=a:b=c, d: not a valid override: mismatched input '=' expecting <EOF>; to "
            "give it as text: \"model.name='a:b=c, d'\"",
        ),
        (
            ("seed=choice(  )",),  # its own spaces are kept
            "seed=choice(  ): not a valid override: ValueError while evaluating 'choice(  )': empt",
        ),
        (("data.train_path=caf\udce9",), r"caf\udce9: has bytes that are not UTF-8; rename the f"),
        (("--foo", "seed=1"), "unrecognized arguments: --foo; options are given as name=value"),
        (("model.name=größe",), "; to give it as text: \"model.name='größe'\""),
        (
            ("experiment=mine", "modle.hidden_size=3"),
            "modle.hidden_size: no such option. Did you mean model? Choose from: baseline, ",
        ),
        (("-m", "--cfg", "job"), "--multirun (-m) and --cfg: give only one of them; leave out -m"),
        (("--resolve",), "--resolve: resolves what --cfg prints; give --cfg job --resolve"),
        (("-sc",), "--shell-completion: give install=bash, uninstall=bash or query=bash"),
        (("~model",), "~model: this group is needed. Choose from: gru, "),
        (
            ("~data", "seed=2"),
            "~data: this group is needed. Choose from: auto, demo, files, imdb, ",
        ),
        (("--experimental-rerun=nowhere",), "--experimental-rerun=nowhere: there is no such file"),
        (("model@modle=gru",), "model@modle: there is no such package in the config"),
        (
            ("-m", "hydra/sweeper=optuna", "hydra.sweeper.direction=maximize"),
            "hydra.sweeper.direction: no such option. Did you mean directions? Choose from: dir",
        ),
        (
            ("-m", "hydra/sweeper=optuna", "hydra.sweeper={direction:maximize}"),
            "hydra.sweeper.direction: no such option. Did you mean directions? Choose from: dir",
        ),
        (
            ("-m", "hydra/sweeper=optuna", "+hydra.sweeper.direction=maximize"),
            "hydra/sweeper=optuna has no such option. Did you mean directions? Choose from: dir",
        ),
        (
            ("-m", "hydra/launcher=joblib", "+hydra.launcher.njobs=2"),
            "hydra/launcher=joblib has no such option. Did you mean n_jobs? Choose from: batch",
        ),
        (
            ("-m", "hydra/launcher=submitit_local", "+hydra.launcher.time_out=2"),
            "hydra/launcher=submitit_local has no such option. Did you mean timeout_min? Choose",
        ),
        (("-m", "hydra.launcher.n_jobs=2"), "of hydra/launcher=basic; choose another hydra/launc"),
        (("-m", "+hydra.launcher.n_jobs=2"), "hydra/launcher=basic has no such option"),
        (
            ("-m", "+hydra.sweeper.max=2"),
            "hydra/sweeper=basic has no such option. Did you mean max_b",
        ),
        (("--model", "gru"), "unrecognized arguments: --model; options are given as name=value"),
        (("hydra.run.dri=x",), "hydra.run.dri: no such option. Did you mean dir? Choose from: dir"),
        (("hydra/launcher=jblib",), "hydra/launcher=jblib: no such choice. Did you mean joblib?"),
        (("hydra.launcher.n_job=2",), "hydra.launcher.n_job: no such option"),
        (("plugins=[no_such_module]",), "plugins=no_such_module: no such module in "),
        (("plugins=[mödul]",), "plugins=mödul: no such module in "),
        (("model=null",), "model=null: no such choice. Choose from: gru, "),
        (("-m", "experiment=null,mine"), "experiment=null: no such choice. Choose from: "),
        (("-m", "sweep=choice(a,b)"), "sweep=choice(a,b): a sweep has only one; give one value"),
        (("-m", "hydra.sweep.dir=choice(a,b)"), "Sweeping over Hydra's configuration is not suppo"),
        (("=3",), "'=3': has no name; options are given as name=value"),
        (("+=3",), "'+=3': has no name"),
        (("",), "'': has no name"),
        (("plugins=5",), "give a list of module names"),
        (("-m", "plugins=choice([a],[b])"), "cannot be swept; give a list of module names"),
        (("model=rnn,gru",), "error: model=rnn,gru: several values are a sweep, which needs -m"),
        (("seed=range(1,3)",), "seed=range(1,3): several values are a sweep, which needs -m"),
        (("seed=1,2",), "seed=1,2: several values are a sweep, which needs -m; a list is given in"),
        (("lr=1,2",), "error: lr: no such option; there is optimizer.lr"),
        (("lr=range(1,3)",), "error: lr: no such option; there is optimizer.lr"),
        (("modle=gru,lstm",), "modle: no such option. Did you mean model? Choose from: "),
        (
            ("optimizer.lr=1,2",),
            "error: optimizer.lr=1,2: several values are a sweep, which needs ",
        ),
        (("hydra/launcher=basic,joblib",), "hydra/launcher=basic,joblib: several values are a sw"),
        (("epochs=3",), "epochs: no such option; there is "),
        (("seed",), "error: seed: options are given as name=value"),
        (("mine",), "error: mine: options are given as name=value"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(compose, arguments, line):
    said = compose("--config-dir=mine", *arguments)
    assert said.startswith("error: ") and line in f"{said}\n"


def test_a_run_without_the_group_of_loggers_is_told_the_choice_that_logs_nowhere():
    with pytest.raises(ConfigError, match=r"^logger: no value given; .* give logger=none$"):
        parse_run_config(OmegaConf.to_container(composed_options("~logger"), resolve=True))


def test_an_option_of_a_group_that_is_not_chosen_names_the_choice():
    arguments = ["run=a", "data.class_names=[a,b]"]
    line = unknown_option("data.class_names", "eval", arguments, [conf_dir()])
    assert line == "data.class_names: only data=files has this option"


@pytest.mark.parametrize(
    ("command", "name", "line"),
    [
        ("train", "epochs", "epochs: no such option; there is trainer.max_epochs"),
        (
            "predict",
            "model",
            "model: no such option. Choose from: batch_size, columns, delimiter, ",
        ),
        ("predict", "model.dropout", "model.dropout: no such option. Choose from: batch_size, "),
        ("predict", "topk", "topk: no such option. Did you mean top_k? Choose from: batch_size, "),
        ("explain", "data", "data: no such option. Choose from: label, output, plugins, run, text"),
        ("serve", "prot", "prot: no such option. Did you mean port? Choose from: allowed_hosts, d"),
    ],
)
def test_the_options_of_the_command_alone_are_choices(command, name, line):
    said = unknown_option(name, command, [f"{name}=a"], [conf_dir()])
    assert said.startswith(line)
    groups = {"callbacks", "experiment", "loss", "objective", "trainer"}
    assert command == "train" or groups.isdisjoint(said.partition("Choose from: ")[2].split(", "))


def test_a_path_without_an_option_is_named_with_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    with pytest.raises(ConfigError, match=r"^runs: options are given as name=value: run=runs$"):
        take_text_literally(["runs", "some text"], "predict")
    with pytest.raises(ConfigError, match=r"^some text: options are given as name=value$"):
        take_text_literally(["run=runs", "some text"], "predict")
    assert take_text_literally(["-m", "~experiment"], "train") == ["-m", "~experiment"]


def test_the_version_is_that_of_the_package(compose):
    assert compose("--version") == f"rnn-lab {rnn_lab.__version__}"


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (("experiment=home",), "run"),
        (("experiment=home", "-m", "hydra.sweep.subdir=ü (1)"), "sweep/ü (1)"),
        (("paths.log_dir=~/logs", "hydra.run.dir=${paths.log_dir}/a"), "logs/a"),
        (("hydra.run.dir=~/a,b",), "a,b"),
        (("sweep=größe", "-m", "paths.log_dir=~", "hydra.sweep.subdir=0"), "größe/0"),
    ],
)
def test_the_home_folder_is_expanded(compose, tmp_path, monkeypatch, arguments, folder):
    home = tmp_path / "müller [x]"
    monkeypatch.setenv("HOME", str(home))
    compose("--config-dir=mine", *arguments)
    assert (home / folder / ".hydra" / "config.yaml").exists()
    assert not (tmp_path / "~").exists()


def test_numbers_of_a_yaml_file_are_text(compose):
    config = parse_run_config(compose("--config-dir=mine", "experiment=größe"))
    assert (config.name, config.tags) == ("2024", ("1", "true", "v2"))


def test_a_config_dir_that_is_not_there_is_one_line(compose):
    assert "nowhere' not found" in compose("--config-dir=nowhere")


@pytest.mark.parametrize("option", ["output_dir=tested", "hydra.run.dir=tested"])
def test_the_output_folder_of_a_test_is_named_by_either_option(monkeypatch, tmp_path, option):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["eval.py", "run=somewhere", option])
    folders = []
    HydraCommand(lambda _: folders.append(HydraConfig.get().runtime.output_dir), "eval").main()
    assert folders == [str(tmp_path / "tested")]
    assert {path.name for path in tmp_path.iterdir()} == {"tested"}
    assert (tmp_path / "tested" / ".hydra" / "config.yaml").exists()


def test_a_plugin_is_imported_before_anything_is_validated(compose, tmp_path):
    """Here the job's folder is named by its validated config."""
    (tmp_path / "my_plugin_of_the_cli.py").write_text("import sys; sys.plugin_was_here = True")
    compose("plugins=[my_plugin_of_the_cli]", "hydra.run.dir=${job_dir:}")
    assert sys.plugin_was_here  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("plugins=[parts]", "model.name=leaky", "model.leak=0.9"),
            "error: model.leak: no YAML file has this option; write +model.leak=0.9",
        ),
        (
            ("--config-dir=conf", "experiment=sums", "-m", "data.num_sums=3,4"),
            "error: data.num_sums: no YAML file has this option; write +data.num_sums=3,4",
        ),
        (("plugins=[parts]", "model.epsilon=1"), "error: model.epsilon: no YAML file has this op"),
        (("plugins=[parts]", "model.leek=1"), "error: model.leek: no such option. Choose from: "),
        (("plugins=[broken]", "model.leak=1"), "error: plugins=broken: cannot be imported: "),
    ],
)
def test_an_option_of_a_plugin_is_written_with_a_plus(tmp_path, arguments, line):
    (tmp_path / "parts.py").write_text(PLUGIN)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    experiment = "# @package _global_\nplugins: [parts]\ndata: {source: sums}\n"
    (tmp_path / "conf" / "experiment" / "sums.yaml").write_text(experiment)
    done = run_warm_command("train.py", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1


def test_a_group_that_is_absent_by_default_may_be_left_out_by_name(compose):
    assert compose("experiment=null", "search=null", "debug=null", "seed=4")["seed"] == 4
