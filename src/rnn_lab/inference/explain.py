"""explain.py: show why a run labels a text as it does, in a page with plots."""

import hashlib
import re
from pathlib import Path
from typing import Any

from rnn_lab.errors import ConfigError, sanitize
from rnn_lab.fast_import import fast_imports, gc_disabled
from rnn_lab.inference.config import ExplainOptions
from rnn_lab.inference.predict import check_text, print_prediction
from rnn_lab.io.atomic import read_json
from rnn_lab.paths import local_path
from rnn_lab.runs.jobs import is_job_dir
from rnn_lab.runs.run_folder import is_sweep_dir, run_folder
from rnn_lab.validation import validate

NAME_LENGTH = 40  # characters of a folder name, without its hash


def explain(options: dict[str, Any]) -> None:
    """Write explanation.html, its plots and its data to a folder; print the prediction.

    Raises:
        UserError: an option or the run cannot be used, or the folder cannot be written.
    """
    checked = validate(ExplainOptions, options)
    text = check_text(checked.text)
    # torch takes seconds to import: only once the options are valid.
    with fast_imports():
        from rnn_lab.inference.load import load_model

    if checked.output is not None:
        _check_folder(local_path(checked.output), f"output={checked.output}")
    run = load_model(checked.run)
    with gc_disabled():
        from rnn_lab.inference.explanation import explain_text

    folder = local_path(checked.output or folder_for(run.path, text, checked.label))
    explanation = explain_text(run, text, checked.label)
    page = explanation.save(folder)
    print_prediction(run, explanation.prefix_probabilities[-1])
    if checked.label is not None or run.is_multilabel:
        print(f"explained: {sanitize(explanation.explained)}")
    print(f"explanation: {page}")


def _check_folder(folder: Path, option: str) -> None:
    """Raise a ConfigError if the files of an explanation would be among others, such as a run's."""
    if not folder.is_dir():
        return
    if is_job_dir(folder) or is_sweep_dir(folder):
        raise ConfigError(f"{option}: is the folder of a run or a sweep; choose another folder")
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    about = read_json(folder / "explanation.json") or {}
    is_ours = {"words", "class_names"} <= about.keys()
    if names and not is_ours:
        raise ConfigError(
            f"{option}: contains other files than an explanation; give a new or empty folder"
        )


def folder_for(checkpoint: Path, text: str, label: str | None = None) -> Path:
    """Return the folder for the page of `text`: explain/<its first words> in the run folder.

    Its name is readable, and different for every text and every label that was asked for.
    """
    folder = run_folder(checkpoint) or checkpoint.parent
    name = re.sub(r"[\W_]+", "-", text.lower()).strip("-")
    if name.replace("-", " ") != text or len(name) > NAME_LENGTH or label is not None:
        key = text if label is None else f"{label}\0{text}"
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:8]
        name = "-".join(filter(None, (name[:NAME_LENGTH].strip("-"), digest)))
    return folder / "explain" / name
