import os
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_lab.data.readers.labels import (
    LIST,
    MISSING_LABELS,
    ClassLookup,
    LabelEncoder,
    canonical_label,
    find_joined_labels,
    join_labels,
    joining_separator,
    label_text,
    parse_list,
    sorted_classes,
    split_labels,
)
from tests.cli.runner import PROJECT


@pytest.mark.parametrize(
    ("values", "label"),
    [
        (("0", "0.0", "-0", " 0 ", 0, 0.0, -0.0, np.int64(0), np.float32(0), Decimal("0.0")), "0"),
        (("-3", "-3.00", -3, -3.0), "-3"),
        (("1.5", 1.5, np.float64(1.5)), "1.5"),
        (("true", True, np.True_), "true"),
        (("", None, float("nan"), float("inf"), np.float64("nan")), ""),
        (("01",), "01"),
        (("good ", "good", "good\u200b", "\ufeffgood", "good\u00a0\u200e"), "good"),
        (("caf\u00e9", "cafe\u0301"), "caf\u00e9"),
    ],
)
def test_one_label_however_it_is_spelled(values, label):
    assert {label_text(value) for value in values} == {label}


def test_what_cannot_be_a_label():
    for value in ([1], {"a": 1}, b"a", object()):
        with pytest.raises(TypeError, match="a label cannot be of the type"):
            label_text(value)


def encoded(labels, classes=None):
    encoder = LabelEncoder(classes)
    for label in labels:
        assert encoder.fault(label) is None, label
        encoder.add(label)
    indices, names = encoder.finish()
    return indices.tolist(), names


def test_booleans_are_one_class_each_where_all_labels_are():
    assert encoded(["True", "FALSE", "true", "False"]) == ([1, 0, 1, 0], ("false", "true"))
    assert encoded(["True", "true", "maybe"])[1] == ("True", "maybe", "true")


def test_labels_of_another_format_find_their_class():
    assert encoded(["TRUE", "false"], ["false", "true"])[0] == [1, 0]
    assert encoded(["true", "false"], ["False", "True"])[0] == [1, 0]
    assert encoded(["0", "1"], ["0.0", "1.0"])[0] == [0, 1]
    lookup = ClassLookup(["true", "True", "1"])
    assert [lookup.get(x) for x in ("true", "True", "TRUE", "1", "01")] == [0, 1, 0, 2, None]
    lookup = ClassLookup(["1.50", "+2", "1e-05", "1.10", "1.1", "nan"])  # as CSV may have them
    found = [lookup.get(label_text(x)) for x in (1.5, 2, 0.00001, "1.10", 1.1, "1.5.0", "NaN")]
    assert found == [0, 1, 2, 3, 4, None, 5]


def test_missing_labels_are_a_fault_unless_they_are_classes():
    for label in MISSING_LABELS - {""}:
        assert f"missing label {label!r}" in LabelEncoder().fault(label)
        assert f"missing label {label!r}" in LabelEncoder(["a", "b"]).fault(label)
        assert LabelEncoder(["a", label]).fault(label) is None
    assert {"#N/A", "NAN", "Null", "-nan", "NaT"} <= MISSING_LABELS  # of Excel, R and str()
    for label in ("none", "NONE", "nano", "-", "?"):
        assert LabelEncoder().fault(label) is None


ORDERED = [
    *("-1", "0", "01", "1", "1e0", "1.5", "2", "10"),
    *("1_0", "A", "NONE", "NaN", "a", "inf", "nan", "٣"),
]
PRINT_ORDER = f"""
from rnn_lab.data.readers.labels import LabelEncoder
encoder = LabelEncoder()
for label in set({ORDERED!r}):
    encoder.add(label)
print(encoder.finish()[1] == tuple({ORDERED!r}))
"""


def test_the_order_of_classes_is_total():
    assert sorted_classes(reversed(ORDERED)) == ORDERED


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_classes_does_not_depend_on_the_hash_seed(seed):
    done = subprocess.run(
        [sys.executable, "-c", PRINT_ORDER],
        env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(PROJECT / "src")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([f"id{i}" for i in range(60)], "60 different labels in 60 rows: they are ids or texts"),
        (list(map(str, range(60))), "60 different labels in 60 rows: they are ids or continuous"),
        ([f"{i % 30}.5" for i in range(600)], "30 different labels in 600 rows: they are contin"),
        ([f"{i % 30},5" for i in range(600)], "30 different labels in 600 rows: they are contin"),
        ([str(i % 30) for i in range(600)], None),
        (["a", "b", "c"], None),
        ([f"1.{i % 5}" for i in range(100)], None),
    ],
)
def test_what_are_no_classes(labels, problem):
    found, known = LabelEncoder(), LabelEncoder(sorted(set(labels)))
    for label in labels:
        found.add(label)
        known.add(label)
    assert known.problem is None
    if problem is None:
        assert found.problem is None
    else:
        assert found.problem.startswith(problem)
        assert ("regression is not supported" in found.problem) == ("continuous" in found.problem)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (
            ("a", "b", "a; b", "b;a"),
            ("semicolon", "2 of 4 classes have ; in their names, which separates 2 labels"),
        ),
        (
            ("a,b", "b,c", "a,c", "a,b,c"),
            ("comma", "4 of 4 classes have , in their names, which separates 3 labels"),
        ),
        (("['a', 'b']", "[]", "c"), ("list", "2 of 3 classes are lists of labels, and 'c' is not")),
        (("[a]", "[b]"), None),
        (("a|b", "a"), None),  # a single name may have a mark in it
        (("towns, cities", "books, films", "food"), None),
        (("1,0", "1,5", "2,0", "2,5", "3,0", "3,5"), None),  # decimal commas
    ],
)
def test_labels_that_are_joined_are_fewer_when_split(labels, found):
    assert find_joined_labels(labels) == found


def test_ids_are_noticed_before_they_fill_the_memory():
    encoder = LabelEncoder()
    rows = 0
    while not encoder.has_many_classes:
        encoder.add(f"id {rows}")
        rows += 1
    assert rows == 100_001
    known = LabelEncoder(["a"])
    known.add("a")
    assert not known.has_many_classes


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("['news', 'tech']", ("news", "tech")),  # as pandas writes a list
        ('["art, music", "it\'s"]', ("art, music", "it's")),  # as JSON does
        ("""['a', "it's"]""", ("a", "it's")),
        ("[1, 2.0, True]", ("1", "2", "true")),
        (" [] ", ()),
        ("['a', 'a']", ("a",)),
        ("[news, tech]", None),
        ("['a' \"it's\"\n 'b']", ("a", "it's", "b")),  # as NumPy prints an array
        ("[1 2]", ("1", "2")),
        ("['a''b']", None),
        ("['a' ... 'b']", None),
        ("['\\N{}']", None),
        ("[['a']]", None),
        ("[a.b]", None),
        ("['a'] or []", None),
        ("[__import__('os')]", None),
        ("[" * 100_000 + "]" * 100_000, None),
        ("[" + "-" * 100_000 + "1]", None),
        ("[" + "9" * 100_000 + "]", None),
        ("['" + "\\\\" * 100_000, None),
    ],
)
def test_cells_that_are_lists(cell, labels):
    assert parse_list(cell) == labels


def test_a_label_in_another_case_names_its_class():
    fault = LabelEncoder(["very good", "bad"]).fault(" Very  Good")
    assert fault == (
        "unknown label ' Very  Good' (did you mean 'very good'?); the classes are: very good, bad"
    )
    assert "did you mean" not in LabelEncoder(["very good", "bad"]).fault("fair")


@given(
    st.lists(
        st.one_of(st.text(";-, a", min_size=1), st.text(min_size=1)), unique_by=canonical_label
    ),
    st.sampled_from([";", "--", ", ", "-;-"]),
)
def test_joined_labels_are_read_back(labels, separator):
    labels = tuple(filter(None, map(canonical_label, labels)))
    joins = joining_separator(labels, separator)
    assert split_labels(join_labels(labels, joins), joins) == labels
    assert joins == LIST or all(separator not in label for label in labels)


@pytest.mark.parametrize(
    ("labels", "separator", "cell"),
    [
        (("a", "b"), ";", "a;b"),
        (("a, b", "c"), ";", "a, b;c"),
        (("a;b", 'ü"'), ";", '["a;b", "ü\\""]'),
        (("a-", "b"), "--", '["a-", "b"]'),
        (("a", "-b"), "--", "a---b"),
    ],
)
def test_labels_are_a_list_where_one_contains_the_separator(labels, separator, cell):
    assert join_labels(labels, joining_separator(labels, separator)) == cell
