"""Test a finished run: `python eval.py run=<folder>`; `python eval.py --help` has the rest."""

from typing import Any

from src.door import door
from src.imports import importing


@door("eval")
def main(options: dict[str, Any]) -> None:
    """Test one run on its own reviews or on others."""
    with importing():
        from src.inference.evaluate import evaluate

    evaluate(options)


if __name__ == "__main__":
    main()
