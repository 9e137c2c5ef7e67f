"""Label texts with a trained run: `python predict.py run=<folder> text="..."`; see `--help`."""

from typing import Any

from src.door import door


@door("predict", verbatim=("run", "text", "input", "output"))
def main(options: dict[str, Any]) -> None:
    """Label one text, or every line of a file."""
    from src.inference.predict import predict

    predict(options)


if __name__ == "__main__":
    main()
