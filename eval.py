"""Test a finished run: `python eval.py run=<folder>`; `python eval.py --help` has the rest."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # a clone need not be installed

from rnn_lab.cli import hydra_entrypoint
from rnn_lab.fast_import import fast_imports


@hydra_entrypoint("eval")
def main(options: dict[str, Any]) -> None:
    """Test one run on its own reviews or on others."""
    with fast_imports():
        from rnn_lab.inference.evaluate import evaluate

    evaluate(options)


if __name__ == "__main__":
    main()
