"""The resolvers of conf: `${name:arguments}` in a YAML file.

Importing this module imports neither torch nor the schemas of options: every command needs it.
"""

from omegaconf import DictConfig, OmegaConf

from rnn_lab.paths import command


def register_resolvers() -> None:
    """Register them for this process.

    `${coalesce:value,default}` is the default where the value is null, `${job_dir:}` the name of a
    job's folder, `${command:train}` how the user types that command, and `${replace:text,old,new}`
    a text with parts replaced.
    """
    OmegaConf.register_new_resolver("coalesce", _coalesce, replace=True)
    OmegaConf.register_new_resolver("command", command, replace=True)
    OmegaConf.register_new_resolver("job_dir", _job_dir, replace=True)
    OmegaConf.register_new_resolver("replace", _replace, replace=True)


def _coalesce(value: object, default: object) -> object:
    return default if value is None else value


def _job_dir(*, _root_: DictConfig) -> str:
    from rnn_lab.sweeps.naming import job_dir_name

    return job_dir_name(_root_)


def _replace(text: object, old: str, new: str) -> str:
    return str(text).replace(old, new)
