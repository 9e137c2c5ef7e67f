"""Label texts with a trained run: `python predict.py run=<run dir> text="..."`; see `--help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # runs without an installation

from rnn_lab.commands import predict as main

if __name__ == "__main__":
    main()
