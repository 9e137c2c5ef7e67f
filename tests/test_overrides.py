"""Text on the command line: taken literally, and printed so that it is read back."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rnn_lab import paths
from rnn_lab.command_line import complete_literally, flags_first, take_text_literally
from rnn_lab.errors import ConfigError
from rnn_lab.overrides import parse_value, quote_override, shell_command, suggest_quotes
from rnn_lab.tracking.loggers import _wandb_command

UGLY = [
    *("müller", "My Project (v2), a=b", "copy(1)", "choice(1,2)", "lr=0.1", "it's", "a#b", "[x]"),
    *(
        'say "hi"',
        """'both' "quotes\"""",
        "back\\slash",
        "end\\",
        "end\\'",
        "$HOME",
        "$(ls)",
        "`ls`",
    ),
    *(
        "${HOME}",
        "\\${oc.env:HOME}",
        "a${b",
        "{a: b}",
        "a;b",
        "a&b|c>d<e",
        "*?",
        "!x",
        "~",
        "~root",
    ),
    *(" lead", "trail ", "two  spaces", "tab\there", "100%", "a:b", "@x", "null", "true", "007"),
    *("1e3", "-1", "inf", "данные", "数据", "🙂", "a,b", ",", "'", '"', "'quoted'", "'a','b'", "^"),
]


def read_by_hydra(argument: str) -> str:
    """Return the value of an override, parsed by Hydra and resolved by OmegaConf."""
    override = OverridesParser.create().parse_override(argument)
    assert not override.is_sweep_override()
    return OmegaConf.create({"value": override.value()})["value"]


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_printed_options_pass_a_shell_and_hydra(shell):
    folders = [f"/data/{name}/run" for name in UGLY] + UGLY
    commands = [
        shell_command("show", "data=files", quote_override("hydra.run.dir", folder))
        for folder in folders
    ]
    commands += [_wandb_command("sync", SimpleNamespace(dir=f"{f}/files")) for f in folders]
    show = 'show() { printf "%s\\0" "$2"; }\n'
    pasted = "\n".join([show, *commands]).replace(f"{paths.wandb_prefix()} sync", "show sync")
    done = subprocess.run([shell, "-c", pasted], capture_output=True, check=True)
    *words, rest = done.stdout.decode().split("\0")
    assert rest == "" and len(words) == 2 * len(folders)
    assert [read_by_hydra(word) for word in words[: len(folders)]] == folders
    assert words[len(folders) :] == [str(Path(folder)) for folder in folders]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_text_is_read_back(text):
    argument = quote_override("name", text)
    assert read_by_hydra(argument) == parse_value(argument.removeprefix("name=")) == text


@pytest.mark.parametrize("text", UGLY)
@pytest.mark.parametrize("option", ["name", "data.train_path", "hydra.job.name"])
def test_text_is_taken_as_typed(option, text):
    """Beside what is Hydra's syntax: null, quotes, a list, a call, a reference."""
    syntax = {
        *("null", "${HOME}", "\\${oc.env:HOME}", "a${b", "'quoted'"),
        *(["[x]"] if option == "data.train_path" else []),
    }
    (argument,) = take_text_literally([f"{option}={text}"], "train")
    if text == "choice(1,2)":
        assert argument == f"{option}='1','2'"
    elif text in syntax:
        assert argument in (f"{option}={text}", f"{option}='{text}'", f"{option}=[x]")
    else:
        assert read_by_hydra(argument) == text
    if text != "choice(1,2)":
        assert take_text_literally([argument], "train") == [argument]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("data.class_names=[差评,好评]", ["差评", "好评"]),
        ("data.class_names=[0,1]", ["0", "1"]),
        ("data.class_names=[False,True]", ["False", "True"]),
        ("data.class_names=[007, 1e3 ,null]", ["007", "1e3", "null"]),
        ("data.class_names=['a,b',it's,\"c\"]", ["a,b", "it's", "c"]),
        ("tags=[1,v2]", ["1", "v2"]),
        ("tags=[]", []),
        ("++tags=[größe]", ["größe"]),
        ("data.train_path=[a=b.csv,Sales (1).csv]", ["a=b.csv", "Sales (1).csv"]),
        ("data.text_column=[0,текст]", [0, "текст"]),
        ("data.label_column=1", 1),
        ("data.label_column=01", "01"),
        ("data.label_column='1'", "1"),
        ("data.group_column=true", "true"),
        ("data.unlabelled=true", True),
        ("data.unlabelled=[é.txt]", ["é.txt"]),
        ("name=1_000", "1_000"),
        ("name=null", None),
        ("name='null'", "null"),
        ("name=", ""),
        ("data.delimiter=,", ","),
        (r"ckpt_path=epoch\=3-step\=10.ckpt", "epoch=3-step=10.ckpt"),  # Hydra's escapes
        (r"hydra.run.dir=My\ Project\ \(v2\)\, a\=b", "My Project (v2), a=b"),
        (r"name=\[x\]", "[x]"),
        (r"name=choice\(1\)", "choice(1)"),
        (r"name=a\\\,b\\c\n", r"a\,b\\c\n"),
        (r"data.class_names=[a\,b,c\ ,\[d\]]", ["a,b", "c ", "[d]"]),
        ("experiment=größe", "größe"),
        ("experiment@trial=größe", "größe"),
        ("model=null", "null"),  # no choice: the message lists them
        ("data.delimiter=;", ";"),
        ("data.quotechar='", "'"),
        ("logger.project=2024", "2024"),
        ("paths.log_dir=übung", "übung"),
        ("hydra.sweeper.study_name=größe", "größe"),
        ("hydra.launcher.setup=[module load cuda; x]", ["module load cuda; x"]),
        ("trainer.max_epochs=007", "007"),  # no text: as Hydra reads it
        ("model.hidden_size=64", 64),
    ],
)
def test_values_of_options_that_hold_text(argument, value):
    (quoted,) = take_text_literally([argument], "train")
    assert OverridesParser.create().parse_override(quoted).value() == value


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("name=2024,2025", ["2024", "2025"]),
        ("data.train_path=données.csv,a=b.csv", ["données.csv", "a=b.csv"]),
        ("data.train_path='a,b.csv',c.csv", ["a,b.csv", "c.csv"]),
        ("data.train_path=[a.csv,é.csv],c.csv", [["a.csv", "é.csv"], "c.csv"]),
        ("data.train_path=copy(1).csv, copy(2).csv", ["copy(1).csv", "copy(2).csv"]),
        ("data.tokenizer=choice(bpe,größe.json)", ["bpe", "größe.json"]),
        ("name=it's,don't", ["it's", "don't"]),
        ("name=null,1", [None, "1"]),
        (r"logger.project=a\,b,c\\,d", ["a,b", "c\\\\", "d"]),
        (r"data.class_names=[a\,b,c],[d]", [["a,b", "c"], ["d"]]),
        ("experiment=größe,mine", ["größe", "mine"]),
    ],
)
def test_a_comma_separates_values_in_a_sweep_only(argument, values):
    _, quoted = take_text_literally(["-m", argument], "train")
    parser = OverridesParser.create()
    swept = parser.parse_override(quoted).sweep_string_iterator()
    assert [parser.parse_override(f"value={value}").value() for value in swept] == values
    if argument.startswith("name="):
        (single,) = take_text_literally([argument], "train")
        assert read_by_hydra(single) == argument.partition("=")[2]


@pytest.mark.parametrize("sweep", ["--multirun", "hydra.mode=MULTIRUN"])
def test_a_sweep_may_be_chosen_in_other_ways(sweep):
    assert take_text_literally([sweep, "name=a,1"], "train") == [sweep, "name=a,'1'"]


@pytest.mark.parametrize(
    ("command", "group"),
    [("train", "experiment"), ("train", "search"), ("train", "debug"), ("eval", "data")],
)
def test_null_leaves_out_a_group_that_is_absent_by_default(command, group):
    assert take_text_literally([f"{group}=null"], command) == [f"~{group}"]


@pytest.mark.parametrize("option", ["sweep", "report_dir", "hydra.sweep.dir", "hydra.job.name"])
def test_what_the_jobs_of_a_sweep_share_may_contain_a_comma(option):
    _, argument = take_text_literally(["-m", f"{option}=größe, (1)"], "train")
    assert read_by_hydra(argument) == "größe, (1)"


def test_a_search_is_a_sweep():
    assert take_text_literally(["search=lstm", "name=a,1"], "train")[1] == "name=a,'1'"


def test_references_stay_references(monkeypatch):
    monkeypatch.setenv("PLACE", "/data")
    for argument in (
        "data.train_path=${oc.env:PLACE}/a.csv",
        "data.train_path=${oc.env:PLACE}/é=1",
    ):
        (quoted,) = take_text_literally([argument], "train")
        assert read_by_hydra(quoted).startswith("/data/")


@pytest.mark.parametrize("command", ["train", "eval", "predict", "explain"])
def test_the_home_folder_is_expanded_where_hydra_uses_a_path(monkeypatch, command):
    monkeypatch.setenv("HOME", "/home/müller")
    arguments = ["hydra.run.dir=~/run", "hydra.run.dir='~/a b'", "--config-dir=~/conf"]
    run, quoted, flag = take_text_literally(arguments, command)
    assert read_by_hydra(run) == "/home/müller/run"
    assert read_by_hydra(quoted) == "/home/müller/a b"
    assert flag == "--config-dir=/home/müller/conf"


@pytest.mark.parametrize("command", ["eval", "predict", "explain"])
@pytest.mark.parametrize("run", ["a=b", "müller/copy(1)", "a,b", "2024", "'a b'"])
def test_every_command_reads_run_alike(command, run):
    (argument,) = take_text_literally([f"run={run}"], command)
    assert read_by_hydra(argument) == parse_value(run) == run.strip("'")


def test_a_reference_of_a_command_without_hydra(monkeypatch):
    monkeypatch.setenv("PLACE", "/data")
    assert parse_value("${oc.env:PLACE}/run") == "/data/run"
    with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE"):
        parse_value("${oc.env:NO_SUCH_VARIABLE}")


def test_what_cannot_be_literal_has_the_quoting_that_works():
    for override in ("model.name=größe", "+x.y=it's é", "trainer.max_time=1=2"):
        quoted = suggest_quotes(override)
        done = subprocess.run(["sh", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
        assert read_by_hydra(done.stdout.decode()) == override.partition("=")[2]
    assert suggest_quotes("seed") is None


@pytest.mark.parametrize(
    ("line", "hydra"),
    [
        ("python train.py name=ü a=b=c mod", "python train.py name='ü' mod"),
        ("python train.py 'data.train_path=My film.csv' model=", "python train.py model="),
        ("python train.py experiment=null model=gru ", "python train.py ~experiment model=gru "),
        ("python train.py -m seed=1,2 data.train_path=é", None),
        ("python", None),
    ],
)
def test_a_shell_completes_after_text_that_is_no_syntax_of_hydra(line, hydra):
    assert complete_literally(line, "train") == (hydra or line)


def test_flags_may_be_between_options():
    given = ["seed=1", "-m", "name=a", "--config-dir", "conf", "tags=[x]"]
    assert flags_first(given) == ["-m", "--config-dir", "conf", "seed=1", "name=a", "tags=[x]"]


def test_a_printed_command_names_the_script_as_it_was_started(monkeypatch, tmp_path):
    root = paths.project_root()
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "x"])
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["eval.py"])
    assert paths.command_prefix("train") == f"{sys.executable} train.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["my_script.py"])
    assert paths.command_prefix("train") == f"{sys.executable} {root / 'train.py'}"
    monkeypatch.setattr(sys, "argv", ["rnn-lab train"])
    monkeypatch.setenv("PATH", "")
    assert paths.command_prefix("eval") == f"{sys.executable} -m rnn_lab eval"
    assert paths.wandb_prefix() == f"{sys.executable} -m wandb"
    monkeypatch.setattr(sys, "argv", ["train.py"])  # there is no report.py
    assert paths.command_prefix("report") == f"{sys.executable} -m rnn_lab report"
