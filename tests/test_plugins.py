"""Plugins: modules of the user, named by conf and the command line and by nothing else."""

import sys

import pytest

from rnn_lab import plugins
from rnn_lab.errors import ConfigError
from rnn_lab.plugins import load_plugins


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with plugins, which are forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_module_of_the_current_folder_is_imported_once(here):
    (here / "my_plugin_once.py").write_text("import sys; sys.count = getattr(sys, 'count', 0) + 1")
    load_plugins(["my_plugin_once"])
    load_plugins(["my_plugin_once"])
    assert sys.count == 1  # type: ignore[attr-defined]
    del sys.count  # type: ignore[attr-defined]


def test_a_module_of_the_current_folder_takes_no_installed_ones_place(here):
    (here / "json.py").write_text("raise RuntimeError")
    (here / "numpy.py").write_text("raise RuntimeError")
    (here / "my_plugin_numpy.py").write_text("import json, numpy; numpy.array")
    load_plugins(["my_plugin_numpy"])


def test_a_module_of_a_package(here):
    (here / "my_package").mkdir()
    (here / "my_package" / "cells.py").write_text("VALUE = 5")
    load_plugins(["my_package.cells"])
    assert sys.modules["my_package.cells"].VALUE == 5


def test_without_names_the_current_folder_is_not_on_the_path(here):
    load_plugins([])
    assert str(here) not in sys.path


@pytest.mark.parametrize(
    ("content", "names", "said"),
    [
        (None, ["no_such_plugin"], "plugins=no_such_plugin: no such module in .* or among the"),
        (None, ["no_such_package.cells"], "plugins=no_such_package.cells: no such module in "),
        (None, "mine", r"^plugins=mine: give a list of module names: plugins=\[mine\]$"),
        (None, "my plugin", r"^plugins=my plugin: give a list .*: plugins=\[my_module\]$"),
        (None, ["my plugin"], r"plugins=\[my plugin\]: give a list of module names"),
        (None, ["mine.py"], r"^plugins=mine.py: give the name of the module: plugins=\[mine\]$"),
        (None, [5], "give a list of module names"),
        ("import nowhere_at_all", ["my_plugin_bad"], "ModuleNotFoundError: .*nowhere_at_all"),
        ("def f(:", ["my_plugin_bad"], "plugins=my_plugin_bad: cannot be imported: SyntaxError: "),
        ("1 / 0", ["my_plugin_bad"], "cannot be imported: ZeroDivisionError: division by zero"),
        ("raise ValueError('a\\nb')", ["my_plugin_bad"], "ValueError: a b"),
        (
            "from rnn_lab.errors import ConfigError\nraise ConfigError('cell lstm: is registered')",
            ["my_plugin_bad"],
            "^plugins=my_plugin_bad: cell lstm: is registered$",
        ),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_one_line(here, content, names, said):
    if content is not None:
        (here / "my_plugin_bad.py").write_text(content)
    with pytest.raises(ConfigError, match=said) as error:
        load_plugins(names)
    assert "\n" not in str(error.value)


def entry_point(folder, value):
    """A package, installed in `folder`, with an entry point."""
    (folder / "their_plugin-1.0.dist-info").mkdir()
    (folder / "their_plugin-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-plugin\nVersion: 1.0\n"
    )
    (folder / "their_plugin-1.0.dist-info" / "entry_points.txt").write_text(
        f"[rnn_lab.plugins]\ntheirs = {value}\n"
    )


def test_an_installed_package_registers_by_its_entry_point(here, monkeypatch):
    monkeypatch.setattr(plugins, "_imported_entry_points", False)
    (here / "their_plugin.py").write_text("VALUE = 7")
    entry_point(here, "their_plugin")
    sys.path.append(str(here))
    load_plugins([])
    assert sys.modules["their_plugin"].VALUE == 7


def test_an_entry_point_that_fails_is_named_with_its_package(here, monkeypatch):
    monkeypatch.setattr(plugins, "_imported_entry_points", False)
    entry_point(here, "their_missing_plugin")
    sys.path.append(str(here))
    said = "^plugin theirs of the package their-plugin: cannot be imported: ModuleNotFoundError: "
    with pytest.raises(ConfigError, match=said):
        load_plugins([])
