"""docs/theory.md is right about the code: its quotes, commands, pictures and numbers."""

import ast
import contextlib
import io
import itertools
import math
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import hydra
import pytest
import torch

from tests.models.test_worked_example import SENTENCE, VECTORS, weights_of
from tests.test_conf import CONF, composed

PROJECT = Path(__file__).resolve().parents[1]
THEORY = PROJECT / "docs" / "theory.md"
TEXT = THEORY.read_text(encoding="utf-8")

LINK = r"\[(?:tests/|src/)[\w/.]+\]\(\.\./(?P<file>[\w/.]+)\)"
# "In [file](../file), `function`" opens a table of its lines, one code span a row.
OPENING = re.compile(rf"^(?:It is set in|In) {LINK}, `(?P<function>[\w.]+)`")
# "[file](../file), `function`: `line`" and "`line` in [file](../file)" within a text.
QUOTE = re.compile(rf"{LINK}(?:,\s+`(?P<function>[\w.]+)`)?:\s+`(?P<line>[^`]+)`")
NAMED = re.compile(rf"{LINK}, `(?P<function>[\w.]+)`")
IN_FILE = re.compile(rf"`(?P<line>[^`]+)`\s+in\s+{LINK}")
COMMAND = re.compile(r"python (?:-m [\w.]+|\w+\.py)[^`\n]*")


def quotes() -> list[tuple[str, str | None, str]]:
    """Every line of code that the text quotes: file, function where it names one, line."""
    found = [(m["file"], m["function"], m["line"]) for m in QUOTE.finditer(TEXT)]
    found += [(m["file"], None, m["line"]) for m in IN_FILE.finditer(TEXT)]
    opening = None
    for row in TEXT.splitlines():
        opening = None if row.startswith("#") else OPENING.match(row) or opening
        if opening and row.startswith("|"):
            spans = re.findall(r"`([^`]+)`", row)
            lines = [span for span in spans if re.search(r" = |^for ", span)]
            found += [(opening["file"], opening["function"], line) for line in lines]
    return found


def lines_of(file: str, function: str | None) -> list[str]:
    source = (PROJECT / file).read_text(encoding="utf-8")
    if function is None:
        return [line.strip() for line in source.splitlines()]
    *owner, function = function.split(".")
    scope: ast.AST = ast.parse(source)
    for name in owner:
        scope = next(n for n in ast.walk(scope) if isinstance(n, ast.ClassDef) and n.name == name)
    functions = [
        node
        for node in ast.walk(scope)
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    assert functions, f"{file} has no {function}"
    parts = [ast.get_source_segment(source, node) or "" for node in functions]
    return [line.strip() for part in parts for line in part.splitlines()]


def test_every_quoted_line_is_where_the_text_says():
    found = quotes()
    for file, function, line in found:
        assert line in lines_of(file, function), (file, function, line)
    for match in NAMED.finditer(TEXT):
        assert lines_of(match["file"], match["function"])
    # Every equation of the cells has its line: none was lost to a change of layout.
    equations = {"RNNCell": 1, "LSTMCell": 6, "GRUCell": 6}
    equations |= {"MinGRUCell": 3, "MinLSTMCell": 3, "PeepholeLSTMCell": 3}
    for cell, number in equations.items():
        lines = {line for _, function, line in found if function == f"{cell}.step"}
        assert len({line for line in lines if " = " in line}) == number, cell
    assert len(found) >= 24


def targets() -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", TEXT) + re.findall(r'src="([^"]+)"', TEXT)


def test_every_file_and_picture_is_there():
    paths = [THEORY.parent / target.partition("#")[0] for target in targets()]
    assert paths
    paths += [PROJECT / name for name in re.findall(r"`((?:src|conf|tests|docs)/[^`\s]*)`", TEXT)]
    assert not [str(path) for path in paths if not path.exists()]
    pictures = [path for path in paths if path.suffix == ".png"]
    assert len(pictures) >= 3
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG\r\n")


def commands() -> list[list[str]]:
    found = COMMAND.findall(TEXT.replace("<run dir>", "<run>"))
    return sorted({tuple(shlex.split(command)[1:]) for command in found})


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_one_that_runs(command):
    script, *arguments = command
    if script == "train.py":
        for job in jobs([argument for argument in arguments if argument != "-m"]):
            composed(*job)
    elif script == "-m" and arguments[0] == "pytest":
        assert all((PROJECT / path).exists() for path in arguments[1:])
    elif script == "-m":
        assert find_spec(arguments[0])
    else:
        assert (PROJECT / script).exists()
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            options = hydra.compose(Path(script).stem)
        assert {argument.partition("=")[0] for argument in arguments} <= set(options)


def jobs(overrides: list[str]) -> list[list[str]]:
    """So many runs of a sweep that every choice occurs."""
    choices = []
    for override in overrides:
        name, _, values = override.partition("=")
        choices.append([f"{name}={value}" for value in values.split(",")])
    most = max(map(len, choices), default=1)
    return [[some[min(i, len(some) - 1)] for some in choices] for i in range(most)]


def test_every_option_is_one():
    options = set(re.findall(r"`((?:model|data|trainer)\.\w+=[\w.]+)`", TEXT))
    assert options >= {"model.reset_after=false", "model.reset_after=true", "model.forget_bias=3"}
    for option in options:
        model = {"reset_after": "gru", "forget_bias": "lstm"}.get(
            re.split("[.=]", option)[1], "rnn"
        )
        composed(f"model={model}", option)


def table(name: str) -> list[list[str]]:
    """The cells of the rows under `<!-- numbers: name -->`, without the head."""
    _, _, rest = TEXT.partition(f"<!-- numbers: {name} -->\n")
    rows = list(itertools.takewhile(lambda row: row.startswith("|"), rest.splitlines()))
    assert len(rows) > 2, name
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_worked_example_has_the_weights_and_words_it_names():
    names, _, numbers = table("weights")
    for name, number in zip(names[1:], numbers[1:], strict=True):
        a = float(number)
        expected = [([a, -a / 2], [0.4 + a, 0.2], 0.1 * a), ([0.25, a - 0.3], [-a, 0.7 * a], -0.2)]
        for unit, (of_h, of_x, b) in zip(weights_of(name.strip("$")), expected, strict=True):
            assert [*unit["h"], *unit["x"], unit["b"]] == pytest.approx([*of_h, *of_x, b])
    words, _, vectors = table("words")
    pairs = zip(words[1:], vectors[1:], strict=True)
    found = {w: [float(x) for x in v.split(",")] for w, v in pairs}
    assert found == VECTORS


def test_the_worked_example_has_the_numbers_of_the_cells():
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        scope: dict = {}
        exec(program, scope)
    assert len(printed.getvalue().splitlines()) == 3 * len(SENTENCE)
    for name, layer in scope["layers"].items():
        (direction,) = scope["trace"](layer, scope["inputs"], torch.tensor([len(SENTENCE)]))
        heads, _, *rows = table(name)
        names = [re.sub(r"\$(?:\\(tilde) )?(\w)\$", r"\2_\1", head).rstrip("_") for head in heads]
        assert set(names[1:]) == set(direction.steps[0])
        assert [row[0] for row in rows] == SENTENCE
        for row, step in zip(rows, direction.steps, strict=True):
            for gate, cell in zip(names[1:], row[1:], strict=True):
                values = step[gate][0].tolist()
                assert cell == ", ".join(f"{value:.3f}" for value in values), (name, gate)


def test_what_a_forget_bias_keeps():
    heads, _, *rows = table("forget bias")
    words = [int(head.removeprefix("over ").replace(",", "")) for head in heads[2:]]
    for bias, share, *powers in rows:
        kept = torch.sigmoid(torch.tensor(float(bias), dtype=torch.float64)).item()
        assert share == f"{kept:.4f}"
        for n, cell in zip(words, powers, strict=True):
            assert math.isclose(float(cell), kept**n, rel_tol=0.05), (bias, n)
