"""A command that composes its config once has the config of one that composes it twice."""

import contextlib
import sys
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from rnn_lab import cli, compose_once


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command; return the configs of its jobs, its error, and how often it composed."""
    monkeypatch.chdir(tmp_path)
    compose = ConfigLoaderImpl._load_configuration_impl

    def run(*arguments: str) -> tuple[list[Any], str, int]:
        found, composed = [], []

        def counted(*args: Any, **options: Any) -> Any:
            composed.append(1)
            return compose(*args, **options)

        def task(options: dict[str, Any]) -> None:
            found.append((options, OmegaConf.to_container(HydraConfig.instance().cfg)))

        place = ("hydra.run.dir=run", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=job")
        monkeypatch.setattr(sys, "argv", ["eval.py", "run=a", "output_dir=b", *arguments, *place])
        with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
            patch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counted)
            cli.hydra_entrypoint("eval")(task)()
        return found, capsys.readouterr().err, len(composed)

    return run


@pytest.mark.parametrize(
    ("arguments", "jobs", "saved"),
    [
        (("device=cpu",), 1, 1),
        (("-m", "device=cpu,auto"), 2, 3),
        (("device=cpu,auto", "hydra.mode=MULTIRUN"), 2, 3),
        (("device=cpu,auto",), 0, 1),
        (("-m", "hydra.verbose=true,false"), 0, 1),
        (("batch=1",), 0, 1),
        (("data=flies",), 0, 1),
        (("hydra/sweeper=???",), 0, 0),  # which a sweep may lack, and no run
    ],
    ids=str,
)
def test_it_is_that_of_hydra(run, monkeypatch, arguments, jobs, saved):
    configs, error, composed = run(*arguments)
    monkeypatch.setattr(cli, "composing_once", contextlib.nullcontext)
    of_hydra = run(*arguments)
    assert (configs, error) == of_hydra[:2]
    assert of_hydra[2] - composed == saved
    assert len(configs) == jobs
    assert bool(error) == (jobs == 0) and len(error.splitlines()) <= 1


def test_a_long_sweep_keeps_few_configs(run, monkeypatch):
    monkeypatch.setattr(compose_once, "MOST_KEPT", 1)
    configs, _, composed = run("-m", "device=cpu,auto")
    assert [options["device"] for options, _ in configs] == ["cpu", "auto"]
    assert composed == 4  # the look, two validations, the second job
