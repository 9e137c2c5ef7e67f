"""Show why a run labels a text as it does: `python explain.py run=<run dir> text="..."`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # runs without an installation

from rnn_lab.commands import explain as main

if __name__ == "__main__":
    main()
