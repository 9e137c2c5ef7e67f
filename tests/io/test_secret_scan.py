"""No key or password is in anything that a run leaves or prints."""

import subprocess
import zipfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rnn_lab.data.config import ImdbConfig
from rnn_lab.errors import ConfigError
from rnn_lab.io.secret_scan import find_secret, git_remote, strip_credentials
from rnn_lab.validation import validate
from tests.cli.forked import run_warm_command

KEY = "local-planted0123456789abcdef0123456789abcdef01"  # of the form that W&B takes
SMALL = (
    *("data=demo", "data.num_train=60", "data.num_test=20", "model.hidden_size=4", "trainer=cpu"),
    *("model.embedding_dim=4", "trainer.max_epochs=1", "logger.mode=offline", "model=rnn"),
)


def holders(folder: Path, *secrets: str) -> list[str]:
    """The files below `folder` with one of `secrets` in a byte of theirs, or in a zip's member."""
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        parts = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                parts += [archive.read(name) for name in archive.namelist()]
        found += [str(path) for s in secrets if any(s.encode() in part for part in parts)]
    return found


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"logger": {"api_key": "abc"}}, "logger.api_key"),
        ({"hydra": {"job": {"env_set": {"WANDB_API_KEY": "abc"}}}}, "WANDB_API_KEY"),
        ({"hydra": {"job": {"env_set": {"PGPASSWORD": "abc"}}}}, "PGPASSWORD"),
        ({"hydra": {"job": {"env_set": {"HF_TOKEN": 123}}}}, "HF_TOKEN"),
        ({"hydra": {"job": {"env_set": {"AWS_SECRET_ACCESS_KEY": "a"}}}}, "AWS_SECRET_ACCESS_KEY"),
        ({"hydra": {"overrides": {"task": ["seed=1", "+logger.api_key=abc"]}}}, "logger.api_key"),
        (
            {"hydra": {"launcher": {"setup": ["export WANDB_API_KEY='abc'"]}}},
            "hydra.launcher.setup",
        ),
        ({"hydra": {"sweeper": {"storage": "mysql://me:abc@host/db"}}}, "hydra.sweeper.storage"),
        ({"hydra": {"sweeper": {"storage": "a://host/db?password=abc"}}}, "hydra.sweeper.storage"),
        ({"data": {"url": "https://abc@host/reviews.tar.gz"}}, "data.url"),
        ({"hydra": {"overrides": {"hydra": ["hydra.sweeper.storage=a://b:abc@c/d"]}}}, "storage"),
    ],
    ids=lambda value: value.rpartition(".")[2] if isinstance(value, str) else "",
)
def test_a_secret_in_a_config_is_found(options, named):
    found = find_secret(OmegaConf.create(options))
    assert found is not None and named in found and "abc" not in found and "123" not in found


@pytest.mark.parametrize(
    "options",
    [
        {"data": {"max_vocab_size": 30000, "max_tokens_per_batch": 16384, "tokenizer": "bpe"}},
        {"hydra": {"overrides": {"task": ["data.max_vocab_size=5", "data.tokenizer=bpe"]}}},
        {"hydra": {"sweeper": {"storage": "${oc.env:STUDIES}"}}},
        {"hydra": {"overrides": {"task": ["hydra.sweeper.storage='${oc.env:STUDIES}'"]}}},
        {"hydra": {"sweeper": {"storage": "mysql://me:${oc.env:PASSWORD}@host/db"}}},
        {"hydra": {"sweeper": {"storage": "sqlite:///studies.db"}}},
        {"hydra": {"job": {"env_set": {"WANDB_API_KEY": "${oc.env:KEY}", "A_TOKEN": None}}}},
        {"hydra": {"launcher": {"setup": ["export WANDB_API_KEY=$KEY"]}}},
        {"data": {"url": "https://host/a@b/reviews.tar.gz", "train": "me@host.csv"}},
    ],
    ids=[f"case {i}" for i in range(9)],
)
def test_what_is_no_secret_or_a_reference_to_one_is_let_through(options):
    assert find_secret(OmegaConf.create(options)) is None


@pytest.mark.parametrize(
    "given",
    [
        ("+logger.api_key=planted",),
        ("+hydra.job.env_set.WANDB_API_KEY=planted",),
        ("-m", "seed=1,2", "hydra/sweeper=optuna", "hydra.sweeper.storage=mysql://a:planted@b/c"),
    ],
    ids=["option", "environment", "database"],
)
def test_a_secret_in_a_command_is_refused_before_a_file_is_written(tmp_path, given):
    done = run_warm_command("train.py", *given, *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "contains a secret" in line and "planted" not in line
    assert not list(tmp_path.rglob("*.*"))


def test_a_url_from_the_environment_is_refused_without_its_password():
    with pytest.raises(ConfigError) as refused:
        validate(ImdbConfig, {"url": "https://me:planted@host/reviews.tar.gz"})
    assert "planted" not in str(refused.value) and str(refused.value).startswith("url: ")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://planted@host/a.git", "https://host/a.git"),
        ("https://planted:x-oauth-basic@host:8080/a.git", "https://host:8080/a.git"),
        ("https://host/a.git", None),
        ("git@host:a.git", None),
    ],
    ids=["token", "token and port", "none", "ssh"],
)
def test_remote_is_shown_without_its_credentials(tmp_path, monkeypatch, url, shown):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", url], check=True)
    monkeypatch.chdir(tmp_path)
    assert git_remote() == shown
    assert strip_credentials(url) == (shown or url)


@pytest.mark.slow
def test_a_run_leaves_no_key_that_it_was_given(tmp_path):
    """The key in the environment, a token in git's remote, and a W&B that cannot be reached."""
    repository = ["git", "-C", str(tmp_path)]
    subprocess.run([*repository[:1], "init", "-q", str(tmp_path)], check=True)
    remote = "https://plantedtoken:x-oauth-basic@example.com/a.git"
    subprocess.run([*repository, "remote", "add", "origin", remote], check=True)
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run([*repository, *author, "commit", "-qm", "a", "--allow-empty"], check=True)
    secrets = {"WANDB_API_KEY": KEY, "OPENAI_API_KEY": "planted-other-key"}
    run = run_warm_command("train.py", *SMALL, "hydra.run.dir=runs/one", cwd=tmp_path, env=secrets)
    assert run.returncode == 0, run.stderr
    planted = ["plantedtoken", *secrets.values()]
    binary = list(tmp_path.glob("runs/one/wandb/offline-run-*/*.wandb"))
    assert binary and b"https://example.com/a.git" in binary[0].read_bytes()
    assert holders(tmp_path / "runs", *planted) == []
    assert [s for s in planted if s in run.stdout + run.stderr] == []


@pytest.mark.slow
def test_sweeps_and_searches_leave_no_key_that_they_were_given(tmp_path):
    """Their jobs in processes of their own; a database's address with a password in it."""
    environment = {
        "WANDB_API_KEY": KEY,
        "STUDIES": f"sqlite:///file:{tmp_path}/studies.db?uri=true&token=planteddatabase",
    }
    sweep = ("-m", "seed=1", "hydra/launcher=submitit_local", "hydra.sweep.dir=runs/sweep")
    search = ("-m", "seed=1,2", "hydra/sweeper=optuna", "hydra.sweep.dir=runs/search")
    search += ("hydra.sweeper.n_trials=1", "hydra.sweeper.storage='${oc.env:STUDIES}'")
    for arguments in (sweep, search):
        done = run_warm_command(
            *("train.py", *arguments, *SMALL, "plots=false"),
            cwd=tmp_path,
            env=environment,
            warm_children=True,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        assert KEY not in output and "planteddatabase" not in output
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) == 2
    assert list(tmp_path.glob("runs/sweep/.submitit/**/*_submitted.pkl"))
    assert holders(tmp_path / "runs", KEY, "planteddatabase") == []
