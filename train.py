"""Train a text classifier: `python train.py model=gru`; `python train.py --help` has the rest."""

from typing import Any

from src.door import door


@door("train", jobs=True)
def main(options: dict[str, Any]) -> None:
    """Train, test and describe one run."""
    from src.sweeps.attempts import train_in_attempts

    train_in_attempts(options)


if __name__ == "__main__":
    main()
