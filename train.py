"""Train a text classifier: `python train.py model=gru`; `python train.py --help` has the rest."""

from typing import Any

from src.door import door


@door("train")
def main(options: dict[str, Any]) -> None:
    """Train, test and describe one run."""
    from src.training.train import train

    train(options)


if __name__ == "__main__":
    main()
