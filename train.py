"""Train a text classifier: `python train.py model=gru`; `python train.py --help` has the rest."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # a clone need not be installed

from rnn_lab.cli import hydra_entrypoint


@hydra_entrypoint("train", jobs=True)
def main(options: dict[str, Any]) -> None:
    """Train, test and describe one run."""
    from rnn_lab.sweeps.retry import train_with_retries

    train_with_retries(options)


if __name__ == "__main__":
    main()
