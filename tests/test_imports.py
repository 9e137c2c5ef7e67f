"""Imports go one way, through the layers that CONTRIBUTING.md lists, and in no circle."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parents[1] / "src"
CONTRIBUTING = SOURCE.parent / "CONTRIBUTING.md"
# Modules beside the layers that are below all of them, or part of the last one.
BASE = {
    *("composition", "errors", "fast_import", "iteration", "log_handler", "overrides", "paths"),
    *("plain_options", "plugins", "process", "registry", "reserved_options", "validation"),
}
COMMANDS = {"__main__", "api", "cli", "command_line", "commands"}


class Import(NamedTuple):
    """One module that imports another, anywhere in its file."""

    of: str
    imported: str
    for_types_only: bool


@cache
def layers() -> list[set[str]]:
    """Return the layers of CONTRIBUTING.md, each with the packages and modules in it."""
    (line,) = re.findall(r"^    (io -> .*)$", CONTRIBUTING.read_text("utf-8"), re.MULTILINE)
    found = [set(layer.split(", ")) for layer in line.split(" -> ")]
    assert found[0] == {"io"} and found[-1] == {"cli"}
    return [found[0] | BASE, *found[1:-1], COMMANDS]


@cache
def modules() -> dict[str, Path]:
    """Return the files of the package by the names of their modules."""
    files = sorted((SOURCE / "rnn_lab").rglob("*.py"))
    names = (".".join(file.relative_to(SOURCE).with_suffix("").parts) for file in files)
    return {name.removesuffix(".__init__"): file for name, file in zip(names, files, strict=True)}


@cache
def imports() -> tuple[Import, ...]:
    """Return the imports within the package, also those in functions."""
    return tuple(
        Import(name, imported, for_types)
        for name, file in modules().items()
        for imported, for_types in imported_by(ast.parse(file.read_text("utf-8")))
        if imported != name
    )


def imported_by(node: ast.AST, *, for_types: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the modules of the package that the code imports, and whether only for types."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        for_types = True
    if isinstance(node, ast.Import):
        yield from ((one.name, for_types) for one in node.names if one.name in modules())
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports are not used"
        for one in node.names:
            inner = f"{node.module}.{one.name}"
            if (name := inner if inner in modules() else node.module) in modules():
                yield name, for_types
    for child in ast.iter_child_nodes(node):
        yield from imported_by(child, for_types=for_types)


def layer_of(module: str) -> int | None:
    """Return the position of a module's layer; None: of the package itself, which has no code."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    (position,) = (i for i, layer in enumerate(layers()) if parts[1] in layer)
    return position


def test_no_layer_imports_one_above_it():
    above = []
    for one in imports():
        of, imported = layer_of(one.of), layer_of(one.imported)
        if of is not None and imported is not None and imported > of:
            above.append(f"{one.of} -> {one.imported}")
    assert not above, "\n".join(above)


def test_no_module_is_imported_in_a_circle():
    graph: dict[str, set[str]] = {}
    for one in imports():
        # `from rnn_lab import __version__` needs nothing that the package imports when it is asked.
        if not one.for_types_only and "rnn_lab" not in (one.of, one.imported):
            graph.setdefault(one.of, set()).add(one.imported)
    TopologicalSorter(graph).prepare()  # raises a CycleError that names the modules


def test_imports_are_found_wherever_they_are():
    source = """
    import rnn_lab.cli
    if TYPE_CHECKING:
        from rnn_lab.data.corpus import Corpus
    def f():
        from rnn_lab.models import layers, no_module
    """
    found = [*imported_by(ast.parse(source.replace("\n    ", "\n")))]
    assert found == [
        ("rnn_lab.cli", False),
        ("rnn_lab.data.corpus", True),
        ("rnn_lab.models.layers", False),
        ("rnn_lab.models", False),
    ]
    assert len(imports()) > 1000
