"""See why a run labels a text as it does: `python explain.py run=<folder> text="..."`."""

from typing import Any

from src.door import door


@door("explain", verbatim=("run", "text", "output"))
def main(options: dict[str, Any]) -> None:
    """Explain one verdict in a page of words, gates and states."""
    from src.inference.explain import explain

    explain(options)


if __name__ == "__main__":
    main()
