"""No private word and no old name is left in the documentation, the configuration and the source.

Private words are searched in prose: Markdown, YAML, page templates, docstrings, comments and error
messages. Old names are searched as options and keys in the same places, and as identifiers in the
source. Of the tests, docstrings, comments and identifiers are searched: their strings are data.
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).resolve().parents[1]
MARKDOWN = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "benchmarks/**/*.md")
NOTEBOOKS = ("docs/*.ipynb",)
CONFIG = ("conf/**/*.yaml", "CITATION.cff", "pyproject.toml", "requirements*.txt")
PAGES = ("src/**/*.html", "src/**/*.js")
SOURCE = ("src/**/*.py", "benchmarks/*.py", "hydra_plugins/*.py", "*.py")
TESTS = ("tests/**/*.py",)
# This file has all words.
NOT_TESTS = ("tests/test_words.py",)
# The sentences of the synthetic reviews, and the table of old names in the changelog.
NOT_PROSE = ("src/rnn_lab/data/sources/demo_phrases.py",)
NOT_NAMES = ("CHANGELOG.md",)

# A regular expression, and the files in which the word is right.
WORDS: dict[str, tuple[str, ...]] = {
    # Words of the project's own.
    r"doors?": (),
    r"houses?": (),
    r"rooms?(?! for)": ("src/rnn_lab/**/*.js",),
    r"half[- ]done": (),
    r"anew": (),
    r"(?<!batch )halvings": ("CHANGELOG.md",),
    r"strangers?": (),
    r"verdicts?": ("src/rnn_lab/data/sources/demo.py",),  # of a film review
    r"by rows": (),
    # "Metric" or "number". A plot is a figure in matplotlib, and a paper has numbered ones.
    r"figures?(?! \d)": ("src/rnn_lab/reports/*", "src/rnn_lab/**/page.html"),
    # Old-fashioned words and turns.
    r"for want of": (),
    r"of like": (),
    r"in the midst": (),
    r"to the letter": (),
    r"to the last (?:bit|digit)": (),
    r"mend(?:s|ed|ing)?": (),
    r"whence|whither|thereof|wherein|dearer": (),
    # Verbs for "is", "has", "prints" and "resumes".
    r"told(?! apart)|tells? of": (),
    r"(?<!it is )said(?! to)": (),
    r"goes on|go on|going on|went on": (),
    r"stood|stands?(?! (?:for|in for|alone|out|upright)\b)": (),
    r"lies|lie in": (),
    r"tak(?:es?|ing) part|took part": (),
    r"(?:is|are|was|were|be|been) had": (),
    r"hold(?:s|ing)? on to|held on to": (),
    r"let(?:s|ting)? go": (),
    r"is at (?:it|this)": (),
    # Clauses in place of nouns.
    r"(?:is|are|to) no (?:finite )?number": (),
    r"what c[ao]me(?:s)? of|came of": (),
    r"what (?:is|was) to be seen": (),
    r"what has become|what became": (),
    r"what a run leaves|leaves? behind": (),
}

# Regular expressions of old options and keys, and the files in which they are right.
OPTIONS: dict[str, tuple[str, ...]] = {
    r"\bagain=": (),
    r"(?<![\w.-])retries(?:=|:\s|\")": (),
    r"\bdata\.max_tokens\b": (),
    r"\bbatch_tokens\b": (),
    r"\bdata\.(?:train|test|validation)(?:=|\b(?!\.[a-z]+_|\w|\.\w|\(|/))(?!_)": (
        "src/*",  # data.train is an attribute of a corpus there; SOURCE_OPTIONS has the option
        "benchmarks/*.py",
        "docs/theory.md",
    ),
    r"\bvalidation_fraction\b": (),
    r"\bgenerator_seed\b": (),
    r"\bon_bad_row\b": (),
    r"\breset=(?:after|before)\b": (),
    r"\breset: (?:after|before)\b": (),
    r"\bembedding_gradient\b": (),
    r"\bwarmup_fraction\b": (),
    r"(?<!enable_)\bprogress_bar\b": (),
    r"(?<!n_)\bstartup_trials\b": (),
    r"\bsweeper\.(?:min_epochs|pruner\.min_epochs|objectives)\b": (),
    r"\boutput_subdir: config\b": (),
    r"\bsame_text\b|\bsame_words\b|\bother_label\b": (),
    r"(?<!batch_)\bhalvings\b(?=[\"`])": (),
    r"\btrain_reviews_per_second\b": (),
    r"\bmade_with\b": (),
}
# The same where they are arguments or messages of the source.
SOURCE_OPTIONS = r"\bdata\.(?:train|test|validation)(?:=| is not set\b)"

# String constants of the source that are keys of a file.
KEYS = "halvings made_with sums processor instructions other_label generator_seed"

# Identifiers that mean one thing only, wherever they occur.
NAMES = """
NoteFolder whole_file whole_binary_file system_error without_collections HeldError check_options
no_such WITHOUT_EFFECT AnotherRunError LogFile RefuseSecrets refuse_secrets overrides_as_given
ForeignCodeError read_torch_file DealtBatchSampler standing_in start_from leave_out left_out
stands_elsewhere StoredTexts in_pieces let_go Ragged RaggedWriter text_fault format_of
PLAIN_TEXT_COLUMNS PLAIN_LABEL_COLUMNS cut_validation order_tokens torchtext_loads
ReviewDataModule evenly_spaced classify_embedded in_cudnn clippable catch_up up_to_date
moves_by_rows by_rows FEWEST_ROWS RowUpdates AdamRows MomentumRows Recurrence
GRUBeforeFunction traced_logits HalfDone find_half_done half_done describe_making is_misfit
NotOursError cannot_go_on how_to_go_on train_here in_sweep FinishedRun read_finished_run
announce_demo announce_duplicates GoBackError say_goes_back LastCheckpoint WholeCheckpoints
StopSignals MAKE_ROOM is_replica train_in_replicas ReplicaError StepFigures ValidationFigures
EpochLines TestPredictions end_soon keep_freed_memory quieten_lightning processor_facts
SteadyWandbLogger or_without log_again train_in_attempts told_in_the_end NoteSweep JobFolder
do_job fingerprint_of answer_here jobs_at_a_time Outcome read_outcome plan_trials
stopped_by_search name_in_sweep varied_options ClaimFolder TrainedRun after_each_token most_wrong
WrongReview goes_on_with_another start_anew job_folders
"""

# Identifiers that are ordinary words: no function, class or constant is named like that.
DEFINITIONS = """
door written importing claimed sign holder Options flat one_line printable Keys pieces
unreadable reversal distinct behind unwritten making made about identify keep
tell died Taken Spread Group trouble verdict said figure Tested Finite Moments drop marks
misfit again retries
"""

# Modules that moved.
MODULES = """
door files torch_file secrets imports cores log_file batching token_batching corpus_store
stored_texts mapped ragged encoded torchtext_words modules recurrent arguments recurrence
gru_before_function gru_before_steps parts row_optimizers row_updates half_done last_words again
comparison keep announce finite last_checkpoint checkpoint_file random_state interrupt machine
replicas result attempts claim ending folder varied launched submitted worker_death outcomes
classify canvas wording wrong curves
"""


class Text(NamedTuple):
    """A piece of prose: where it is, and what it says."""

    file: str
    line: int
    text: str


@pytest.mark.parametrize("pattern", WORDS)
def test_no_private_word_is_left(pattern: str) -> None:
    word = re.compile(rf"(?<![\w/.-])(?:{pattern})(?![\w-])", re.IGNORECASE)
    found = report(word, prose_without(*WORDS[pattern], *NOT_PROSE))
    assert not found, f"{pattern}\n{found}"
    found = report(word, prose_of_tests())
    assert not found, f"{pattern}\n{found}"


@pytest.mark.parametrize("pattern", OPTIONS)
def test_no_old_option_is_left(pattern: str) -> None:
    found = report(re.compile(pattern), prose_without(*OPTIONS[pattern], *NOT_NAMES))
    assert not found, f"{pattern}\n{found}"


def test_no_old_option_is_left_in_the_source() -> None:
    texts = (text for text in prose_without() if text.file.endswith(".py"))
    found = report(re.compile(SOURCE_OPTIONS), texts)
    assert not found, found


def test_no_old_key_is_left_in_the_source() -> None:
    keys = KEYS.split()
    found = [
        f"{file}:{node.lineno}: {node.value!r}"
        for file in paths(SOURCE)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Constant) and node.value in keys
    ]
    assert not found, "\n".join(found)


def test_no_old_identifier_is_left() -> None:
    names, definitions = set(NAMES.split()), set(DEFINITIONS.split())
    found = []
    for file in paths((*SOURCE, *TESTS)):
        for node in ast.walk(tree(file)):
            name, defined = name_of(node)
            if name in names or (defined and name in definitions):
                found.append(f"{file}:{getattr(node, 'lineno', 1)}: {name}")
    assert not found, "\n".join(sorted(set(found)))


def test_no_old_module_is_left() -> None:
    found = [file for file in paths(("src/**/*.py",)) if Path(file).stem in MODULES.split()]
    assert not found, "\n".join(found)


def test_the_search_finds_what_it_is_for() -> None:
    source = '"""Says what is told."""\nx = f"{x} goes on"  # half-done\n'
    assert [text.text for text in prose_of_source("x.py", source)] == [
        "# half-done",
        "Says what is told.",
        " goes on",
    ]
    tree_ = ast.parse("import a.half_done\nclass Group: pass\nGroup\nx.keep()\ndef keep(): pass")
    named = [name_of(node) for node in ast.walk(tree_)]
    assert ("half_done", False) in named
    assert ("Group", True) in named and ("Group", False) in named
    assert ("keep", True) in named and ("keep", False) in named


def report(pattern: re.Pattern[str], texts: Iterable[Text]) -> str:
    """Return a line for each occurrence: file, line and the words around it."""
    found = []
    for file, first, text in texts:
        for match in pattern.finditer(text):
            line = first + text.count("\n", 0, match.start())
            around = " ".join(text[max(0, match.start() - 30) : match.end() + 30].split())
            found.append(f"{file}:{line}: {around}")
    return "\n".join(found)


def prose_without(*patterns: str) -> Iterator[Text]:
    """Yield the prose of all files that match no pattern."""
    for file, texts in prose().items():
        if not is_among(file, patterns):
            yield from texts


@cache
def prose() -> dict[str, list[Text]]:
    """Return the prose of each file of the project."""
    found = {
        file: [Text(file, 1, (PROJECT / file).read_text(encoding="utf-8"))]
        for file in paths((*MARKDOWN, *CONFIG, *PAGES))
    }
    for file in paths(NOTEBOOKS):
        cells = json.loads((PROJECT / file).read_text(encoding="utf-8"))["cells"]
        found[file] = [Text(file, 1, "".join(cell["source"])) for cell in cells]
    for file in paths(SOURCE):
        found[file] = [*prose_of_source(file, (PROJECT / file).read_text(encoding="utf-8"))]
    return found


@cache
def prose_of_tests() -> list[Text]:
    """Return the comments and docstrings of the tests."""
    found = []
    for file in paths(TESTS):
        if file not in NOT_TESTS:
            source = (PROJECT / file).read_text(encoding="utf-8")
            found += [*comments(file, source), *docstrings(file, source)]
    return found


def comments(file: str, source: str) -> Iterator[Text]:
    """Yield the comments of a module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(file, token.start[0], token.string)


def docstrings(file: str, source: str) -> Iterator[Text]:
    """Yield the docstrings of a module, its classes and functions."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield Text(file, getattr(node, "lineno", 1), ast.get_docstring(node) or "")


def prose_of_source(file: str, source: str) -> Iterator[Text]:
    """Yield the comments of a module, then its docstrings and other strings, f-strings in parts."""
    yield from comments(file, source)
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield Text(file, node.lineno, node.value)


def tree(file: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return parsed((PROJECT / file).read_text(encoding="utf-8"))


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def name_of(node: ast.AST) -> tuple[str | None, bool]:
    """Return the identifier that a node has, and whether the node defines it."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name, True
        case ast.Name(id=name, ctx=context):
            return name, isinstance(context, ast.Store) and name.isupper()
        case ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=name):
            return name, False
        case ast.alias(name=name):
            return name.rpartition(".")[2], False
        case _:
            return None, False


@cache
def paths(patterns: tuple[str, ...]) -> list[str]:
    """Return the files that match, as paths from the project, without those of an environment."""
    found = {path for pattern in patterns for path in PROJECT.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(PROJECT).as_posix() for path in found)


def is_among(file: str, patterns: Iterable[str]) -> bool:
    """Return whether a path matches one of the patterns."""
    return any(fnmatch(file, pattern) for pattern in patterns)
