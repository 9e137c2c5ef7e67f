"""Train one run from Python: conf/train.yaml composed in this process, and texts in memory."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_lab.composition import check_assignments, composition_error, separate_hydra
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.sources.lists import store_corpus
from rnn_lab.errors import ConfigError
from rnn_lab.io.atomic import atomic_write
from rnn_lab.io.secret_scan import find_secret
from rnn_lab.io.streams import fault_tolerant_streams
from rnn_lab.overrides import (
    own_options,
    quote_override,
    take_literally,
    text_options,
)
from rnn_lab.paths import conf_dir, local_path
from rnn_lab.runs.run_folder import CONFIG_DIR
from rnn_lab.training.config import RunConfig, parse_run_config
from rnn_lab.training.job_dir import JobDir, job_fingerprint
from rnn_lab.training.more_epochs import check_finished
from rnn_lab.training.resolvers import register_resolvers
from rnn_lab.training.retry import retry_run
from rnn_lab.training.spec import RunSpec

_ONE_AT_A_TIME = threading.RLock()  # random generators, streams and Hydra's state are global


def train_corpus(corpus: Corpus, output_dir: str | Path | None, overrides: Sequence[str]) -> Path:
    """Train, test and report a run on `corpus`; return its folder.

    The texts are stored in `data.cache_dir`, so that the commands can test and resume the run.
    Trainings in several threads run one after the other.

    Args:
        corpus: from `corpus_from_lists`.
        output_dir: the folder of the run; None: named by the time, as of the command.
        overrides: as on the command line, of one run.

    Raises:
        ConfigError: an override is unknown or impossible, or for the command alone.
        UserError: as of the command.
    """
    with _ONE_AT_A_TIME, fault_tolerant_streams():
        return _train(corpus, output_dir, overrides)


def _train(corpus: Corpus, output_dir: str | Path | None, overrides: Sequence[str]) -> Path:
    check_assignments(overrides)
    overrides = take_literally(overrides, text_options(RunConfig), is_sweep=lambda: False)
    config, options = _compose(overrides)
    run = parse_run_config(options)
    _refuse(overrides, run)
    stored = store_corpus(corpus, Path(run.data.cache_dir).absolute())
    options["data"]["corpus"] = str(stored)
    folder = local_path(output_dir or config.hydra.run.dir).absolute()
    given = ["data=lists", quote_override("data.corpus", str(stored)), *overrides]
    job = JobDir(folder)
    with job.locked(wait=False):
        if job.status == "finished":
            check_finished(
                f"output_dir={folder}",
                folder,
                parse_run_config(options),
                remedy="load it with rnn_lab.load, choose another folder",
            )
        fingerprint, before = job_fingerprint(options), job.records()
        other = job.unfinished_fingerprint() not in (None, fingerprint)
        if not other or run.resume == "never":  # otherwise it will probably be refused
            _write_config(folder, options, given)
        with job.started(before, fingerprint=fingerprint, overrides=given, trial=None):
            retry_run(RunSpec(parse_run_config(options), folder, raw_overrides=tuple(given)))
    return folder


def _write_config(folder: Path, options: dict[str, Any], overrides: Sequence[str]) -> None:
    """Write what Hydra writes of a command, which commands that read the run take from there."""
    for name, content in (("config.yaml", options), ("overrides.yaml", [*overrides])):
        with atomic_write(folder / CONFIG_DIR / name) as file:
            file.write(OmegaConf.to_yaml(OmegaConf.create(content)))


@separate_hydra()
def _compose(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """Return the config and its own options, resolved; the caller may be within a Hydra program."""
    given = ["data=lists", *overrides]
    register_resolvers()
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = hydra.compose("train", overrides=given, return_hydra_config=True)
        options = own_options(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(composition_error(error, "train", given, [conf_dir()])) from error
    if name := find_secret(config):
        raise ConfigError(
            f"{name}: contains a secret, and options are written into the run folder; set an "
            "environment variable and use '${oc.env:<its name>}'"
        )
    return config, options


def _refuse(overrides: Sequence[str], run: Any) -> None:
    """Raise a ConfigError for what the command alone can do."""
    for override in overrides:
        name = override.partition("=")[0].lstrip("+~")
        if name in ("data", "data.source", "data.corpus"):
            raise ConfigError(f"{override}: the texts of the run are those that are given")
        if name in ("sweep", "reproduce", "report_dir") or name.startswith("hydra."):
            raise ConfigError(f"{override}: is an option of the command `rnn-lab train`")
    if run.trainer.fast_dev_run:
        raise ConfigError(
            "trainer.fast_dev_run: saves no model to return; use the command `rnn-lab train`"
        )
    if run.trainer.strategy == "ddp":
        raise ConfigError(
            "trainer.strategy=ddp: starts several processes, which the command `rnn-lab train` does"
        )
