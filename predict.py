"""Label texts with a trained run: `python predict.py run=<folder> text="..."`; see `--help`."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # a clone need not be installed

from rnn_lab.cli import hydra_entrypoint


@hydra_entrypoint("predict", verbatim=("run", "text", "input", "output"))
def main(options: dict[str, Any]) -> None:
    """Label one text, or every line of a file."""
    from rnn_lab.inference.predict import predict

    predict(options)


if __name__ == "__main__":
    main()
