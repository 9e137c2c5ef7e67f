"""explain.py: why a run labels a text as it does, in a page and pictures."""

import hashlib
import re
from pathlib import Path
from typing import Any

from rnn_lab.data.readers.records import text_error
from rnn_lab.errors import ConfigError, sanitize
from rnn_lab.fast_import import fast_imports, gc_disabled
from rnn_lab.inference.config import ExplainOptions
from rnn_lab.validation import validate

NAME_LETTERS = 40


def explain(options: dict[str, Any]) -> None:
    """Write explanation.html, its pictures and its numbers to a folder; print the verdict.

    Raises:
        UserError: an option or the run cannot be used, or the folder cannot be written.
    """
    checked = validate(ExplainOptions, options)
    text = checked.text or ""
    if not text.strip():
        raise ConfigError('text: is empty; give a text to explain: text="..."')
    if fault := text_error(text, "utf-8"):
        raise ConfigError(f"text: {fault}")
    # torch takes seconds to import: only once the options are known to be sound.
    with fast_imports():
        from rnn_lab.inference.load import load_model

    run = load_model(checked.run)
    with gc_disabled():
        from rnn_lab.inference.explanation import write_explanation
        from rnn_lab.reports.explain.explanation_data import read_explanation
        from rnn_lab.reports.explain.page import draw_explanation

    folder = Path(checked.output).expanduser() if checked.output else folder_for(run.path, text)
    write_explanation(folder, run, text)
    page = draw_explanation(folder)
    explained = read_explanation(folder)
    ranking = [(sanitize(name), probability) for name, probability in explained.ranking]
    width = max(len(name) for name, _ in ranking)
    print(ranking[0][0])
    for name, probability in ranking:
        print(f"  {name:{width}}  {100 * probability:5.1f} %")
    print(f"explained in {page}")


def folder_for(checkpoint: Path, text: str) -> Path:
    """Where the page of `text` goes: explain/<its first words> in the run's folder."""
    parent = checkpoint.parent
    return (parent.parent if parent.name == "checkpoints" else parent) / "explain" / _name(text)


def _name(text: str) -> str:
    """A folder name that tells people which text it is, and is no other text's."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if name.replace("-", " ") == text and len(name) <= NAME_LETTERS:
        return name
    mark = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return "-".join(filter(None, (name[:NAME_LETTERS].strip("-"), mark)))
