"""`rnn-lab export`: write a trained run as one .safetensors file."""

from collections.abc import Sequence
from pathlib import Path

from rnn_lab.errors import ConfigError
from rnn_lab.fast_import import fast_imports
from rnn_lab.inference.config import ExportOptions
from rnn_lab.plugins import load_plugins
from rnn_lab.validation import validate

USAGE = """Write a trained run as one .safetensors file, which cannot contain code.

usage: rnn-lab export run=RUN [output=model.safetensors] [plugins=MODULE,...]

RUN is a run folder or a .ckpt file. The file contains the network, its vocabulary and its class
names. predict, eval and explain accept it as run=model.safetensors and give bit-identical
predictions."""


def export(arguments: Sequence[str]) -> Path:
    """Write the run of `run=...` to `output=...`, and return that path.

    Raises:
        ConfigError: an argument is unknown or has an invalid value.
        CheckpointError: the run cannot be read.
        WriteError: the file cannot be written.
    """
    given: dict[str, str] = dict(argument.partition("=")[::2] for argument in arguments)
    plugins = given.pop("plugins", "").strip("[]")
    options = validate(ExportOptions, given)
    output = Path(options.output).expanduser()
    if output.suffix != ".safetensors":
        raise ConfigError(f"output={options.output}: unknown extension. Choose from: .safetensors")
    with fast_imports():
        from rnn_lab.inference.load import load_model
        from rnn_lab.inference.safetensors_io import write_safetensors

    load_plugins([name.strip() for name in plugins.split(",")] if plugins else [])
    run = load_model(options.run)
    write_safetensors(output, run.model.state_dict(), run.about)
    return output
