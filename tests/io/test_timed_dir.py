"""A folder that is named by the time belongs to one command; one that the user names is shared."""

import copy
from pathlib import Path

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import rnn_lab.cli  # noqa: F401  it registers the resolvers of conf
from rnn_lab.errors import WriteError
from rnn_lab.io.timed_dir import claim_timed_dir
from rnn_lab.paths import conf_dir

NOW = {("%Y-%m-%d",): "2026-01-02", ("%H-%M-%S",): "03-04-05"}


def composed(number: int, *overrides: str, name: str = "train") -> list[DictConfig]:
    """Compose the config of that many commands of one and the same second."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose(name, [*overrides], return_hydra_config=True)
    configs = [copy.deepcopy(config) for _ in range(number)]
    for config in configs:
        OmegaConf.get_cache(config)["now"] = dict(NOW)
    return configs


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "option", "first"),
    [
        ("train", "hydra.sweep.dir", "runs/2026-01-02/03-04-05_sweep"),
        ("train", "hydra.run.dir", "runs/2026-01-02/03-04-05_gru_seed1"),
        ("eval", "hydra.run.dir", "runs/eval/2026-01-02/03-04-05"),
        ("eval", "hydra.sweep.dir", "runs/eval/2026-01-02/03-04-05_sweep"),
    ],
)
def test_commands_of_one_second_have_folders_of_their_own(
    name: str, option: str, first: str
) -> None:
    start = "on_run_start" if option == "hydra.run.dir" else "on_multirun_start"
    configs = composed(3, name=name)
    for config in configs:
        for callback in config.hydra.callbacks.values():
            getattr(instantiate(callback), start)(config)
    folders = [OmegaConf.select(config, option) for config in configs]
    assert folders == [first, f"{first}_2", f"{first}_3"]
    assert all(Path(folder).is_dir() for folder in folders)


def test_the_jobs_of_a_sweep_are_told_its_folder() -> None:
    log_dir = "paths.log_dir='it\\'s, a=b'"
    configs = composed(2, log_dir)
    for config in configs:
        created = claim_timed_dir(config, "hydra.sweep.dir")
    assert created == [Path("it's, a=b/2026-01-02/03-04-05_sweep_2")]
    assert list(configs[0].hydra.overrides.hydra) == []
    (given,) = OverridesParser.create().parse_overrides(list(configs[1].hydra.overrides.hydra))
    folder = "it's, a=b/2026-01-02/03-04-05_sweep_2"
    assert (given.key_or_group, given.value()) == ("hydra.sweep.dir", folder)
    assert configs[1].hydra.sweep.dir == folder


@pytest.mark.parametrize(
    "override",
    [
        "sweep=mine",
        "sweep=2026-01-02",
        "hydra.sweep.dir=there",
        "hydra.sweep.dir='${now:%Y-%m-%d}'",
    ],
)
def test_a_folder_that_the_user_names_is_shared(override: str) -> None:
    configs = composed(2, override)
    for config in configs:
        claim_timed_dir(config, "hydra.sweep.dir")
    assert len({config.hydra.sweep.dir for config in configs}) == 1


def test_processes_that_train_together_share_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    configs = composed(2)
    for config in configs:
        claim_timed_dir(config, "hydra.run.dir")
    assert len({config.hydra.run.dir for config in configs}) == 1


def test_a_folder_that_cannot_be_created_is_one_line(cwd: Path) -> None:
    (cwd / "file").touch()
    with pytest.raises(WriteError, match="cannot be written: Not a directory"):
        claim_timed_dir(*composed(1, "paths.log_dir=file"), "hydra.sweep.dir")
