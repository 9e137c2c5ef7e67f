"""The resolvers of conf: `${name:arguments}` in a YAML file.

Importing this module imports neither torch nor the schemas of options: every command needs it.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rnn_lab.paths import command, shown_conf_dir


def register_resolvers() -> None:
    """Register them for this process.

    `${coalesce:value,default}` is the default where the value is null, `${job_dir:}` the name of a
    job's folder, and `${replace:text,old,new}` a text with parts replaced. Help pages have
    `${command:train}`, how the user types that command, `${choices:train}`, its config groups, and
    `${conf_dir:}`, the folder of their files.
    """
    OmegaConf.register_new_resolver("choices", _choices, replace=True)
    OmegaConf.register_new_resolver("coalesce", _coalesce, replace=True)
    OmegaConf.register_new_resolver("command", command, replace=True)
    OmegaConf.register_new_resolver("conf_dir", shown_conf_dir, replace=True)
    OmegaConf.register_new_resolver("job_dir", _job_dir, replace=True)
    OmegaConf.register_new_resolver("replace", _replace, replace=True)


def _choices(config_name: str, *, _root_: DictConfig) -> str:
    from rnn_lab.composition import choices_help

    sources = _root_.hydra.runtime.config_sources  # with that of --config-dir
    return choices_help(config_name, [Path(one.path) for one in sources if one.schema == "file"])


def _coalesce(value: object, default: object) -> object:
    return default if value is None else value


def _job_dir(*, _root_: DictConfig) -> str:
    from rnn_lab.training.job_dir import job_dir_name

    return job_dir_name(_root_)


def _replace(text: object, old: str, new: str) -> str:
    return str(text).replace(old, new)
