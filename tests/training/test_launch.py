"""A run that a signal stops before it trains."""

import builtins
import gc
import signal
import sys
from pathlib import Path

import pytest

from rnn_lab.training import in_process, launch
from rnn_lab.training.signals import Interrupted
from rnn_lab.training.spec import RunSpec
from tests.test_conf import composed


def test_a_run_that_is_stopped_during_an_import_prints_how_to_start_over(monkeypatch, capsys):
    """No module that needs torch can be imported after that."""
    import_module = builtins.__import__

    def refuse(name, *arguments):
        assert not name.startswith(("torch", "lightning", "rnn_lab")), name
        return import_module(name, *arguments)

    def interrupt():
        monkeypatch.setattr(builtins, "__import__", refuse)
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(in_process, "tune_malloc", interrupt)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(sys, "argv", ["rnn-lab train"])
    config = composed("data=demo", "logger=none")
    spec = RunSpec(config, Path("/data/müller (1)"), ["seed=2", "resume=auto"])
    with pytest.raises(SystemExit) as end:
        launch.launch(spec)
    monkeypatch.undo()
    assert end.value.code == 128 + signal.SIGTERM
    said = capsys.readouterr().err
    assert said.startswith("interrupted; start over with: ")
    assert said.endswith(""" train seed=2 "hydra.run.dir='/data/müller (1)'"\n""")
