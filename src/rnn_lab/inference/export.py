"""A run's network as one .safetensors file: `python -m rnn_lab.inference.export run=<folder>`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rnn_lab.errors import ConfigError, UserError
from rnn_lab.fast_import import fast_imports
from rnn_lab.inference.config import ExportOptions
from rnn_lab.inference.safetensors_io import SUFFIX, write_safetensors
from rnn_lab.validation import validate

USAGE = """python -m rnn_lab.inference.export run=<folder or .ckpt file> output=model.safetensors

Writes the network of a finished run with its vocabulary and classes as one file, which no reader
can be made to run code by. predict.py, eval.py and explain.py read it as run=model.safetensors, and
give the same answers to the last bit."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file that the arguments name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--help"], ["-h"]):
        print(USAGE)
        return
    try:
        print(f"written: {export(given)}")
    except UserError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(1)


def export(arguments: Sequence[str]) -> Path:
    """Write the run of `run=...` to `output=...`, which is returned.

    Raises:
        ConfigError: the arguments are not those two.
        CheckpointError: the run cannot be read.
        UserError: the file cannot be written.
    """
    given = dict(argument.partition("=")[::2] for argument in arguments)
    options = validate(ExportOptions, given)
    output = Path(options.output).expanduser()
    if output.suffix != SUFFIX:
        raise ConfigError(f"output={options.output}: unknown ending. Choose from: {SUFFIX}")
    with fast_imports():
        from rnn_lab.inference.load import load_model

    run = load_model(options.run)
    write_safetensors(output, run.model.state_dict(), run.about)
    return output


if __name__ == "__main__":
    main()
