"""Test a trained run: `python eval.py run=<run dir>`; `python eval.py --help` shows more."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # runs without an installation

from rnn_lab.commands import evaluate as main

if __name__ == "__main__":
    main()
