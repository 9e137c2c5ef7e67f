"""See why a run labels a text as it does: `python explain.py run=<folder> text="..."`."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # a clone need not be installed

from rnn_lab.cli import hydra_entrypoint


@hydra_entrypoint("explain", verbatim=("run", "text", "output"))
def main(options: dict[str, Any]) -> None:
    """Explain one verdict in a page of words, gates and states."""
    from rnn_lab.inference.explain import explain

    explain(options)


if __name__ == "__main__":
    main()
