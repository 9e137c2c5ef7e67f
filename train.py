"""Train a text classifier: `python train.py model=gru`; `python train.py --help` shows more."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # runs without an installation

from rnn_lab.commands import train as main

if __name__ == "__main__":
    main()
