"""docs/get_started.ipynb runs from top to bottom, and its stored outputs are those of such a run.

`python -m tests.test_notebook` runs it and stores the outputs again.
"""

import base64
import io
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from tests.cli.runner import PROJECT, command_environment

PATH = PROJECT / "docs" / "get_started.ipynb"
MAX_BYTES = 400_000  # GitHub shows it, and a clone keeps each version of it
LINK = re.compile(r"\]\((?P<file>[^)#\s]+)(?:#(?P<anchor>[^)\s]+))?\)")


def run_notebook(folder: Path, temporary: Path = Path("/tmp")) -> NotebookNode:
    """Return the notebook with the outputs of a run in `folder`, in a process of its own.

    It writes its files to a folder within `temporary`.
    """
    notebook = nbformat.read(PATH, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    environment = command_environment(folder) | {"TMPDIR": str(temporary)}
    return client.execute(env=environment)


def text_of(notebook: NotebookNode, cell_id: str) -> str:
    """Return all text that a cell has shown, without standard error."""
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    shown = [output.get("text") or output["data"] for output in outputs]
    return "".join(
        one if isinstance(one, str) else one.get("text/html") or one["text/plain"] for one in shown
    )


def pictures(notebook: NotebookNode) -> list[str]:
    """Return the cells that have shown a picture."""
    return [
        cell.id
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", ())
    ]


def check_outputs(notebook: NotebookNode) -> None:
    """Check what a reader is to see."""
    assert pictures(notebook) == ["curves", "confusion", "prediction", "gates-plot"]
    (accuracy,) = re.findall(r"'test/accuracy': ([\d.]+)", text_of(notebook, "metrics"))
    assert float(accuracy) > 0.9
    explained = text_of(notebook, "words")
    assert "<bdi>positive</bdi>" in explained and "<bdi>gripping</bdi>" in explained
    trained = text_of(notebook, "train-tickets")
    network, linear = (
        float(re.search(pattern, trained)[1])
        for pattern in (r" accuracy +\S+ % +(\S+) %", r"TF-IDF .*?accuracy (\S+) %")
    )
    assert network > linear, "the order of the words decides"
    labels = [line.split()[0] for line in text_of(notebook, "predict-python").splitlines()]
    assert labels[:2] == ["billing", "login"]
    header, *rows = text_of(notebook, "predict-command").splitlines()
    assert header.startswith("line,id,message,label,")
    assert [label in row for label, row in zip(labels, rows, strict=True)] == [True] * 3
    assert "probabilities differ by at most" in text_of(notebook, "export-onnx")
    assert text_of(notebook, "serve") == "delivery\ntorch imported: False\n"


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    check_outputs(run_notebook(tmp_path, tmp_path))


def test_the_stored_outputs_are_those_of_a_run() -> None:
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    check_outputs(notebook)
    assert PATH.stat().st_size < MAX_BYTES


def test_links_lead_somewhere() -> None:
    notebook = nbformat.read(PATH, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = [match["file"] for match in LINK.finditer(text)]
    assert links
    assert [link for link in links if not (PATH.parent / link).exists()] == []


def shrink(picture: str) -> str:
    """Return a PNG, both in base64, with 64 colours: a third of its size."""
    made = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        image.convert("RGB").quantize(64).save(made, "png", optimize=True)
    return base64.b64encode(made.getvalue()).decode()


def main() -> None:
    """Store the outputs of a run."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = run_notebook(Path(folder))
    check_outputs(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if picture := output.get("data", {}).get("image/png"):
                output.data["image/png"] = shrink(picture)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, PATH)


if __name__ == "__main__":
    main()
