import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from rnn_lab.data.config import DataOptions, FilesConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.sources.file_sets import files_below
from rnn_lab.data.sources.text_files import load_files
from rnn_lab.data.splits import split_validation
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.validation import StrictConfig, validate
from tests.test_conf import composed


class Data(StrictConfig):
    data: DataOptions


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load files of the working folder."""
    monkeypatch.chdir(tmp_path)

    def load_with(**options) -> Corpus:
        return load_files(FilesConfig(cache_dir="cache", **options))

    return load_with


def rows(number: int, labels=("bad", "good")) -> list[tuple[str, str]]:
    return [(f"text number {i}", labels[i % len(labels)]) for i in range(number)]


def write_csv(name: str, content: list[tuple[str, str]], separator: str = ",") -> None:
    lines = [separator.join(row) for row in [("text", "label"), *content]]
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def labelled(split, corpus: Corpus) -> list[tuple[str, str]]:
    return [(t, corpus.class_names[i]) for t, i in zip(split.texts, split.labels, strict=True)]


def test_the_same_rows_from_every_format(load):
    content = rows(20)
    write_csv("a.csv", content)
    write_csv("a.tsv", content, "\t")
    Path("a.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "label": label}) for text, label in content)
    )
    for i, (text, label) in enumerate(content):
        Path("a", label).mkdir(parents=True, exist_ok=True)
        Path("a", label, f"{i:02}.txt").write_text(text)
    for path in ("a.csv", "a.tsv", "a.jsonl", "a"):
        corpus = load(train_path=path)
        assert corpus.name == "files"
        assert corpus.class_names == ("bad", "good")
        assert corpus.validation is None
        everything = labelled(corpus.train, corpus) + labelled(corpus.test, corpus)
        assert sorted(everything) == sorted(content)
        assert np.bincount(corpus.test.labels).tolist() == [2, 2]
        assert not set(corpus.train.texts) & set(corpus.test.texts)


def test_given_splits_are_taken_as_they_are(load):
    parts = rows(30)
    write_csv("train.csv", parts[:20])
    write_csv("val.csv", parts[20:24])
    write_csv("test.csv", parts[24:])
    corpus = load(train_path="train.csv", val_path="val.csv", test_path="test.csv")
    assert labelled(corpus.train, corpus) == parts[:20]
    assert labelled(corpus.validation, corpus) == parts[20:24]
    assert labelled(corpus.test, corpus) == parts[24:]
    assert corpus.test.names[0] == "test.csv:2"


def test_classes_in_the_order_asked_for(load):
    write_csv("a.csv", rows(20))
    assert load(train_path="a.csv", class_names=["good", "bad"]).class_names == ("good", "bad")


def test_numeric_labels_are_ordered_by_value(load):
    write_csv("a.csv", rows(60, labels=("10", "9", "1")))
    assert load(train_path="a.csv").class_names == ("1", "9", "10")


def test_three_classes_from_other_columns(load):
    lines = ["id;", *(f"{i},words {i},{'abc'[i % 3]}" for i in range(30))]
    lines[0] = "id,body of it,mood"
    Path("a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.csv:1: .*id, body of it, mood"):
        load(train_path="a.csv")
    corpus = load(train_path="a.csv", text_column="body of it", label_column="mood")
    assert corpus.class_names == ("a", "b", "c")


BAD = (
    'text,label\nfine,good\n,good\n"two\nlines",bad\nok,bad,extra\nnice,good\nwell,bad\nyes,good\n'
)


def test_a_bad_row_is_an_error_with_file_and_line(load):
    Path("a.csv").write_text(BAD)
    with pytest.raises(DataError, match=r"^a\.csv:3: empty text"):
        load(train_path="a.csv")


def test_skipped_rows_are_listed(load):
    Path("a.csv").write_text(BAD)
    for _ in range(2):  # parsed, then from the cache
        corpus = load(train_path="a.csv", on_bad_lines="skip", test_fraction=0.3)
        assert list(corpus.skipped) == [
            "a.csv:3: empty text",
            "a.csv:6: 3 columns where the header has 2",
        ]
        assert len(corpus.train) + len(corpus.test) == 5
        assert {"a.csv:4", "a.csv:7"} < {*corpus.train.names, *corpus.test.names}


def test_labels_that_training_does_not_know(load):
    write_csv("train.csv", rows(20))
    write_csv("test.csv", [("a", "good"), ("b", "ugly"), ("c", "bad")])
    with pytest.raises(DataError, match=r"test\.csv:3: unknown label 'ugly'.*bad, good"):
        load(train_path="train.csv", test_path="test.csv")
    corpus = load(train_path="train.csv", test_path="test.csv", on_bad_lines="skip")
    assert len(corpus.test) == 2
    with pytest.raises(DataError, match=r"train\.csv:3: unknown label 'good'"):
        load(train_path="train.csv", class_names=["bad", "fair"])
    with pytest.raises(DataError, match=r"train\.csv: has no rows of the class 'fair'"):
        load(train_path="train.csv", class_names=["bad", "good", "fair"])


def test_a_wrong_encoding(load):
    Path("a.csv").write_bytes("text,label\nok,1\nCafé,0\nso,0\nno,1\n".encode("latin-1"))
    message = r"a\.csv:3: is not utf-8: byte 0xe9 \(data\.encoding=cp1252 decodes the file\)"
    with pytest.raises(DataError, match=message):
        load(train_path="a.csv", encoding="utf-8")
    for encoding, used in {"latin-1": "latin-1", "cp1252": "cp1252", "auto": "cp1252"}.items():
        corpus = load(train_path="a.csv", encoding=encoding)
        assert "Café" in {*corpus.train.texts, *corpus.test.texts}
        assert corpus.source_info["train_path"]["encoding"] == used


def test_a_column_whose_name_may_be_misread(load):
    rows = "".join(f"an ordinary text number {i},{i % 2}\n" for i in range(20))
    Path("a.csv").write_bytes(f"treść,etykieta\n{rows}".encode("cp1250"))
    Path("b.csv").write_bytes(f"text,mark\n{rows}café,1\n".encode("cp1252"))
    Path("c.csv").write_text(f"treść,etykieta\n{rows}", encoding="utf-8")
    columns = {"text_column": "treść", "label_column": "etykieta"}
    message = (
        "a.csv:1: has no column 'treść'; set data.text_column to one of: treœæ, etykieta "
        "(the file was read as cp1252; set data.encoding if it has another encoding)"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load(train_path="a.csv", **columns)
    assert len(load(train_path="a.csv", encoding="cp1250", **columns).train) == 16
    for name, listed in (("b.csv", "text, mark"), ("c.csv", "treść, etykieta")):  # certain names
        with pytest.raises(DataError, match=f"has no column 'x'; .* to one of: {listed}$"):
            load(train_path=name, label_column="x")


def test_a_file_in_an_encoding_that_is_not_plausible(load):
    lines = ["текст,label", *(f"очень хороший фильм номер {i},{i % 2}" for i in range(20))]
    Path("a.csv").write_bytes("\n".join(lines).encode("cp1251"))
    with pytest.raises(DataError, match=r"^a\.csv:1: is not utf-8: .*cp1251.*; set data\.encoding"):
        load(train_path="a.csv")
    corpus = load(train_path="a.csv", encoding="cp1251", text_column="текст")
    assert corpus.class_names == ("0", "1")


def test_bad_texts_in_a_folder(load):
    for label in ("bad", "good"):
        Path("a", label).mkdir(parents=True)
        for i in range(3):
            Path("a", label, f"{i}.txt").write_text(f"{label} {i}")
    Path("a", "good", "1.txt").write_bytes(b"\xff")
    Path("a", "good", "2.txt").write_bytes(b" \n")
    Path("a", "good", "3.txt").write_text("good 3")
    with pytest.raises(DataError, match=r"^a/good/1\.txt: is not utf-8: byte 0xff"):
        load(train_path="a")
    corpus = load(train_path="a", on_bad_lines="skip")
    assert list(corpus.skipped) == [
        "good/1.txt: is not utf-8: byte 0xff",
        "good/2.txt: empty text",
    ]


def test_what_cannot_be_a_data_set(load):
    write_csv("one.csv", rows(5, labels=("good",)))
    write_csv("none.csv", [])
    write_csv("tiny.csv", rows(2))
    Path("plain.txt").write_text("a text")
    Path("single", "good").mkdir(parents=True)
    Path("single", "good", "1.txt").write_text("a text")
    Path("hollow", "good").mkdir(parents=True)
    Path("hollow", "bad").mkdir()
    for path, message in {
        "one.csv": "one class only, 'good'",
        "none.csv": "no usable rows",
        "tiny.csv": "each of the 2 rows is the only one of its class",
        "plain.txt": "plain text has no labels",
        "missing.csv": "no such file or folder",
        "single": "needs two or more folders.*; found 1",
        "hollow": "bad: contains no files",
    }.items():
        with pytest.raises(DataError, match=message):
            load(train_path=path)
    with pytest.raises(ConfigError, match=r"data\.train_path="):
        load()


@pytest.mark.parametrize("class_names", [None, [f"c{i}" for i in range(10)]])
def test_labels_that_are_all_different(load, class_names):
    write_csv("ten.csv", rows(10, labels=[f"c{i}" for i in range(10)]))
    with pytest.raises(DataError, match=r"each of the 10 rows is the only one of its class"):
        load(train_path="ten.csv", class_names=class_names)
    write_csv("two.csv", rows(2))
    config = FilesConfig(train_path="two.csv", test_path="two.csv")
    message = "each of the 2 training texts is the only one of its class.*data.val_split=random"
    with pytest.raises(DataError, match=message):
        split_validation(load(train_path="two.csv", test_path="two.csv"), config)


def test_half_of_the_lines_in_another_encoding(load):
    """Skipping them leaves one class; the messages say what was skipped, and what reads it."""
    lines = [f"ein Café {i},{'bad' if i % 2 else 'good'}\n" for i in range(20)]
    halves = [line.encode("cp1252" if i % 2 else "utf-8") for i, line in enumerate(lines)]
    Path("a.csv").write_bytes(b"text,label\n" + b"".join(halves))
    advice = (
        r"10 of 21 lines are not utf-8: data\.on_bad_lines=skip .*data\.encoding=cp1252 decodes"
    )
    with pytest.raises(DataError, match=rf"a\.csv:3: is not utf-8: byte 0xe9 \({advice}"):
        load(train_path="a.csv")
    with pytest.raises(DataError, match=r"one class only, 'good'.*10 rows were skipped, the fir"):
        load(train_path="a.csv", on_bad_lines="skip")
    assert len(load(train_path="a.csv", encoding="cp1252").train) == 16


def test_only_bad_rows(load):
    Path("a.csv").write_text("text,label\n,1\n,2\n")
    with pytest.raises(
        DataError, match=r"no usable rows; 2 rows were skipped, the first: a\.csv:2: emp"
    ):
        load(train_path="a.csv", on_bad_lines="skip")


def test_a_corpus_to_test_on_only(load):
    write_csv("new.csv", [("a", "good"), ("b", "good")])
    corpus = load(test_path="new.csv", class_names=["bad", "good"])
    assert len(corpus.train) == 0
    assert corpus.class_names == ("bad", "good")
    assert corpus.test.labels.tolist() == [1, 1]
    with pytest.raises(ConfigError):
        load(test_path="new.csv")


def test_a_changed_file_is_read_again(load):
    write_csv("a.csv", rows(20))
    first = load(train_path="a.csv")
    assert load(train_path="a.csv").fingerprint == first.fingerprint
    write_csv("a.csv", rows(22))
    second = load(train_path="a.csv")
    assert second.fingerprint != first.fingerprint
    assert len(second.train) + len(second.test) == 22


def test_the_fingerprint_is_of_the_content(load):
    write_csv("a.csv", rows(20))
    Path("other").mkdir()
    write_csv("other/a.csv", rows(20))
    assert load(train_path="a.csv").fingerprint == load(train_path="other/a.csv").fingerprint
    assert (
        load(train_path="a.csv", split_seed=1).fingerprint != load(train_path="a.csv").fingerprint
    )


def test_one_label_in_every_format(load):
    """Training in one format and testing in another fit together."""
    texts = [f"text number {i}" for i in range(20)]
    csv_labels = ("0.0", "1.0")
    write_csv("train.csv", [(t, csv_labels[i % 2]) for i, t in enumerate(texts)])
    Path("test.jsonl").write_text("\n".join(f'{{"text": "a", "label": {x}}}' for x in ("0", "1.0")))
    Path("test", "0").mkdir(parents=True)
    Path("test", "1").mkdir()
    Path("test", "0", "a.txt").write_text("a")
    Path("test", "1", "b.txt").write_text("b")
    shutil.copytree("test", "floats")
    for label in ("0", "1"):
        Path("floats", label).rename(Path("floats", f"{label}.0"))
    for train, test in (("train.csv", "test.jsonl"), ("train.csv", "test"), ("floats", "test")):
        corpus = load(train_path=train, test_path=test)
        assert corpus.class_names == ("0", "1")
        assert corpus.test.labels.tolist() == [0, 1]
    write_csv("train.csv", [(t, ("True", "FALSE")[i % 2]) for i, t in enumerate(texts)])
    Path("test.jsonl").write_text('{"text": "a", "label": true}\n{"text": "b", "label": false}')
    corpus = load(train_path="train.csv", test_path="test.jsonl")
    assert corpus.class_names == ("false", "true")
    assert corpus.test.labels.tolist() == [1, 0]


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "null", "NA"])
def test_missing_labels_are_one_rule(load, missing):
    good = [(f"text {i}", ("a", "b")[i % 2]) for i in range(20)]
    write_csv("a.csv", [*good, ("last", missing)])
    Path("a.jsonl").write_text(
        "\n".join(json.dumps({"text": t, "label": x}) for t, x in [*good, ("last", missing)])
    )
    for i, (text, label) in enumerate([*good, ("last", missing)]):
        Path("a", label).mkdir(parents=True, exist_ok=True)
        Path("a", label, f"{i}.txt").write_text(text)
    for path in ("a.csv", "a.jsonl", "a"):
        with pytest.raises(DataError, match=rf"missing label '{missing}'.*data\.class_names"):
            load(train_path=path)
        corpus = load(train_path=path, on_bad_lines="skip")
        assert corpus.class_names == ("a", "b")
        assert len(corpus.skipped) == 1
        # As Hydra reads the list.
        typed = {"nan": float("nan"), "null": None}.get(missing, missing)
        corpus = load(train_path=path, class_names=["a", "b", typed])
        assert len(corpus.train) + len(corpus.test) == 21


def test_labels_that_are_no_classes_name_the_column(load):
    lines = [f"{i},the words of a text number {i},{i}.5,{'ab'[i % 2]}" for i in range(60)]
    Path("a.csv").write_text("\n".join(["id,text,score,mood", *lines]))
    with pytest.raises(DataError) as error:
        load(train_path="a.csv", label_column="score")
    assert str(error.value) == (
        "a.csv: the column 'score' has 60 different labels in 60 rows: they are continuous values, "
        "and regression is not supported; set data.label_column to another column (id, mood), or "
        "data.class_names=[...] if they are classes"
    )
    with pytest.raises(DataError, match="the column 'id' has 60 different labels in 60 rows"):
        load(train_path="a.csv", label_column="id")
    assert load(train_path="a.csv", label_column="mood").class_names == ("a", "b")


def test_joined_labels_that_are_no_classes_name_the_separator(load):
    names = "abcdefgh"
    pairs = [f"{a};{b}" for a in names for b in names if a < b]
    Path("a.csv").write_text("\n".join(["text,label", *(f"text {p},{p}" for p in pairs)]))
    with pytest.raises(DataError) as error:
        load(train_path="a.csv")
    assert str(error.value) == (
        "a.csv: the column 'label' has 28 different labels in 28 rows: they are ids or texts; set "
        "data.label_separator=semicolon if a text may have any number of labels (28 of 28 "
        "classes have ; in their names, which separates 8 labels), or data.class_names=[...] if "
        "they are classes"
    )
    assert load(train_path="a.csv", label_separator="semicolon").class_names == tuple(names)


@pytest.mark.parametrize("separator", ["semicolon", "comma"])
def test_an_empty_label_names_the_separator_that_accepts_it(load, separator):
    joined = "a;b" if separator == "semicolon" else '"a,b"'
    labels = ["a", "b", joined, joined.replace("b", "c"), "c"] * 4
    Path("a.csv").write_text(
        "\n".join(["text,label", *(f"text,{label}" for label in labels), "z,"])
    )
    with pytest.raises(DataError) as error:
        load(train_path="a.csv")
    assert str(error.value) == (
        "a.csv:22: empty label (data.on_bad_lines=skip skips such rows; if a text may have any "
        f"number of labels, data.label_separator={separator} reads an empty cell as none)"
    )
    corpus = load(train_path="a.csv", label_separator=separator)
    none = [not any(labels) for split in (corpus.train, corpus.test) for labels in split.labels]
    assert (corpus.class_names, sum(none)) == (("a", "b", "c"), 1)


def test_a_class_of_one_row_stays_in_training(load):
    write_csv("a.csv", [*rows(20), ("the only one", "rare")])
    corpus = load(train_path="a.csv")
    rare = corpus.class_names.index("rare")
    assert (corpus.train.labels == rare).sum() == 1
    assert (corpus.test.labels == rare).sum() == 0


def test_a_small_test_file_is_read_like_the_training_file(load):
    lines = [f"{i % 2},the words of a text {'very ' * (i % 9)}{i}" for i in range(30)]
    Path("train.csv").write_text("\n".join(lines))
    Path("test.csv").write_text("1,short\n0,a\n")
    corpus = load(train_path="train.csv", test_path="test.csv")
    assert labelled(corpus.test, corpus) == [("short", "1"), ("a", "0")]
    with pytest.raises(
        DataError, match=r"set data\.text_column and data\.label_column to two of: 0 \(1\)"
    ):
        load(train_path="test.csv")


def test_what_was_inferred_is_kept_with_the_corpus(load):
    Path("a.csv").write_bytes(
        "größe;note\n".encode("cp1252")
        + b"".join(
            f"ein schöner Text mit {i} Wörtern {'sehr ' * (i % 9)};{i % 2}\n".encode("cp1252")
            for i in range(30)
        )
    )
    for _ in range(2):  # parsed, then from the cache
        assert load(train_path="a.csv").source_info == {
            "train_path": {
                "path": "a.csv",
                "format": "csv",
                "encoding": "cp1252",
                "delimiter": "semicolon",
                "quotechar": "double",
                "header": True,
                "text_column": "größe",
                "label_column": "note",
            }
        }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": "ab"}, "data.delimiter=ab: needs one character, or its name: comma"),
        ({"quotechar": "\n"}, "needs one character, or its name: double, single, none"),
        ({"header": "yes"}, "data.header=yes: "),
        ({"text_column": [["a"]]}, "data.text_column=[['a']]: "),
    ],
)
def test_options_that_are_not_possible(options, message):
    with pytest.raises(ConfigError) as error:
        validate(Data, {"data": {"source": "files", "train_path": "a.csv"} | options})
    assert message in str(error.value)


def test_class_names_are_spelled_as_labels():
    config = FilesConfig(train_path="a", class_names=[0, 1.0, True, "None"])
    assert config.class_names == ["0", "1", "true", "None"]


def write_authors(name: str = "a.csv", authors: int = 30) -> None:
    lines = ["author,text,label"]
    for i in range(300):
        author = "" if i % 50 == 0 else f"author {i % authors}"
        lines.append(f"{author},text number {i},{('bad', 'good')[i * 7 % 5 > 2]}")
    Path(name).write_text("\n".join(lines) + "\n")


def authors_of(split) -> set[int]:
    return {int(text.split()[-1]) % 30 for text in split.texts if int(text.split()[-1]) % 50}


def test_an_author_is_in_one_split(load):
    write_authors()
    Path("a.jsonl").write_text(
        "\n".join(
            json.dumps(dict(zip(("author", "text", "label"), line.split(","), strict=True)))
            for line in Path("a.csv").read_text().splitlines()[1:]
        )
    )
    found = [load(train_path=path, group_column="author") for path in ("a.csv", "a.jsonl")]
    found.append(load(train_path="a.csv", group_column=0))
    assert len({(*corpus.train.texts, "|", *corpus.test.texts) for corpus in found}) == 1
    corpus = found[0]
    config = FilesConfig(train_path="a.csv", group_column="author")
    train, validation = split_validation(corpus, config)
    parts = [authors_of(corpus.train.take(rows)) for rows in (train, validation)]
    parts.append(authors_of(corpus.test))
    assert sum(map(len, parts)) == len(set.union(*parts)) == 30
    assert len(corpus.test) == pytest.approx(60, abs=5)  # half an author
    assert len(validation) == pytest.approx(24, abs=5)
    alone = corpus.train.groups[corpus.train.groups < 0]
    assert len(set(alone)) == len(alone) > 0  # rows without an author
    assert config.resolve(corpus).val_split == "by_group"
    assert FilesConfig(train_path="a.csv").resolve(corpus).val_split == "stratified"
    assert corpus.source_info["train_path"]["group_column"] == "author"


def test_a_test_file_need_not_have_the_groups(load):
    write_authors()
    write_csv("test.csv", rows(20))
    corpus = load(train_path="a.csv", test_path="test.csv", group_column="author")
    assert len(corpus.test) == 20 and len(corpus.train) == 300
    Path("t").mkdir()
    for label in ("bad", "good"):
        Path("t", f"{label}.txt").write_text("".join(f"text {i}\n" for i in range(9)))
    with pytest.raises(DataError, match=r"data\.group_column=author: t has no columns"):
        load(train_path="t", group_column="author")
    with pytest.raises(DataError, match=r"no column 'writer'; set data\.group_column to one of"):
        load(train_path="a.csv", group_column="writer")


@pytest.mark.parametrize("group_column", [None, "author"])
def test_every_text_is_tested_in_one_fold(load, group_column):
    write_authors()
    options = {"train_path": "a.csv", "group_column": group_column, "folds": 4}
    corpora = [load(fold=fold, **options) for fold in range(4)]
    tested = [text for corpus in corpora for text in corpus.test.texts]
    assert sorted(tested) == sorted(f"text number {i}" for i in range(300))
    for corpus in corpora:
        assert sorted([*corpus.train.texts, *corpus.test.texts]) == sorted(tested)
        assert len(corpus.test) == pytest.approx(75, abs=5)  # half an author
        assert np.bincount(corpus.test.labels) == pytest.approx([45, 30], abs=5)
        if group_column is not None:
            assert not authors_of(corpus.train) & authors_of(corpus.test)


SEVERAL = [("toxic", "insult"), (), ("insult",), ("threat",), ("toxic",)] * 8


def several_labels(split, corpus: Corpus) -> list[tuple[str, set[str]]]:
    return [
        (text, {name for name, has in zip(corpus.class_names, row, strict=True) if has})
        for text, row in zip(split.texts, split.labels, strict=True)
    ]


def test_any_number_of_labels_from_every_form(load):
    texts = [f"text number {i}" + " and more" * (i % 4) for i in range(40)]
    names = ("toxic", "insult", "threat")
    columns = ",".join(names)
    pairs = list(zip(texts, SEVERAL, strict=True))
    Path("cells.csv").write_text(
        "text,label\n" + "".join(f"{t},{' ; '.join(found)}\n" for t, found in pairs)
    )
    Path("columns.csv").write_text(
        f"id,text,{columns}\n"
        + "".join(f"0,{t},{','.join(str(int(n in found)) for n in names)}\n" for t, found in pairs)
    )
    Path("lists.jsonl").write_text(
        "".join(json.dumps({"text": t, "label": found}) + "\n" for t, found in pairs)
    )
    Path("flags.jsonl").write_text(
        "".join(
            json.dumps({"text": t} | {n: n in found for n in names}) + "\n" for t, found in pairs
        )
    )
    Path("texts.txt").write_text("".join(f"{t}\n" for t, _ in pairs))
    Path("labels.txt").write_text("".join(f"{'|'.join(found)}\n" for _, found in pairs))
    corpora = [
        load(train_path="cells.csv", label_separator="semicolon"),
        load(train_path="columns.csv", label_column=list(names)),
        load(train_path="lists.jsonl"),
        load(train_path="flags.jsonl", label_column=list(names)),
        load(train_path=["texts.txt", "labels.txt"], label_separator="|"),
    ]
    expected = dict(zip(texts, map(set, SEVERAL), strict=True))
    for corpus in corpora:
        assert corpus.task == "multilabel" and corpus.train.labels.dtype == np.uint8
        found = several_labels(corpus.train, corpus) + several_labels(corpus.test, corpus)
        assert dict(found) == expected
    assert [corpus.class_names for corpus in corpora] == [
        ("insult", "threat", "toxic"),
        names,
        ("insult", "threat", "toxic"),
        names,
        ("insult", "threat", "toxic"),
    ]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("text,a,b\nx,1,2\n", {"label_column": ["a", "b"]}, ":2: 'b' is '2' and neither 0 nor 1"),
        ("text,a,b\nx,1,\n", {"label_column": ["a", "b"]}, ":2: 'b' is '' and neither 0 nor 1"),
        ("text,a,b\nx,1,0\n", {"label_column": ["a", "c"]}, "has no column 'c'"),
        ("text,label\nx,1;0\ny,1\n", {"label_separator": ";"}, "1, 0 where lists of labels"),
        ("text,label\nx,\ny,\n", {"label_separator": ";"}, "no label where lists of labels"),
        ("text,label\nx,a;NA\n", {"label_separator": ";"}, ":2: missing label 'NA'"),
        ("text,label\nx,a\ny,\n", {"label_separator": ";"}, "one class only, 'a'"),
        ("text,a,b\nx,1,0\n", {"label_column": ["a", "b"]}, "no rows of the class 'b'"),
    ],
)
def test_faults_of_any_number_of_labels(load, content, options, message):
    Path("a.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        load(train_path="a.csv", **options)


def test_a_label_that_contains_the_separator(load):
    rows = [{"text": f"song {i}", "label": found} for i, found in enumerate([["a;b"], ["a", "b"]])]
    Path("lists.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 10))
    Path("cells.csv").write_text("text,label\nx,a;b\n")
    message = (
        "data.label_separator=';': the label 'a;b' contains it, and would be read as several; "
        "choose another separator, or data.label_separator=list for cells with lists"
    )
    names = ["a", "b", "a;b"]
    for options in (
        {"train_path": "lists.jsonl", "test_path": "cells.csv"},
        {"test_path": "cells.csv", "class_names": names},
    ):
        with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
            load(label_separator="semicolon", **options)
    assert load(train_path="lists.jsonl", label_separator="list").class_names == ("a", "a;b", "b")


def test_one_label_and_several_do_not_mix(load):
    one, several = '{"text": "x", "label": "a"}\n', '{"text": "y", "label": ["a", "b"]}\n'
    Path("a.jsonl").write_text(one + several)
    with pytest.raises(DataError, match=r":2: has a list of labels, and the texts before it"):
        load(train_path="a.jsonl")
    Path("a.jsonl").write_text(several + one)
    with pytest.raises(DataError, match=r":2: has the label 'a' and no list of labels"):
        load(train_path="a.jsonl")
    Path("a", "pos").mkdir(parents=True)
    Path("a", "neg").mkdir()
    with pytest.raises(DataError, match=r"data\.label_separator has no column"):
        load(train_path="a", label_separator=";")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1, "fold": 0}, r"data\.folds=1: .*greater than or equal to 2"),
        ({"folds": 5, "fold": 5}, r"data\.fold=5: must be 0 to 4 with data\.folds=5"),
        ({"folds": 3}, r"data\.folds=3: needs data\.fold.*-m data\.folds=3 data\.fold=0,1,2$"),
        ({"fold": 0}, r"data\.fold=0: needs data\.folds"),
        ({"folds": 3, "fold": 0, "test_path": "b.csv"}, r"data\.folds=3: .*data\.test_path"),
        ({"val_split": "by_group"}, r"by_group: needs data\.group_column"),
        ({"val_split": "by_film"}, r"data\.val_split=by_film: .*by_group"),
    ],
)
def test_folds_and_groups_that_are_impossible(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        validate(Data, {"data": {"source": "files", "train_path": "a.csv", **options}})
    assert "\n" not in str(error.value)


def test_more_folds_than_rows(load):
    write_csv("a.csv", rows(4))
    with pytest.raises(DataError, match=r"a\.csv: 4 rows are too few for 9 folds; .*smaller"):
        load(train_path="a.csv", folds=9, fold=0)


def test_a_sweep_over_seeds_has_one_test_and_one_validation_split(load):
    write_csv("a.csv", rows(200))
    splits = []
    for seed in (1, 2):
        config = composed(f"seed={seed}", "data=files", "data.train_path=a.csv")
        data = TextDataModule(config.data.model_copy(update={"cache_dir": "c"}), seed=config.seed)
        data.setup()
        splits.append(
            [list(data.examples_of(name).names) for name in ("train", "validation", "test")]
        )
    assert splits[0] == splits[1]
    assert [len(names) for names in splits[0]] == [144, 16, 40]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": ["a"]}, "two or more columns"),
        ({"label_column": ["a", "a"]}, "two or more columns"),
        ({"label_column": ["a", "b"], "label_separator": ";"}, "have no separator"),
        ({"label_separator": ""}, "one or more characters"),
    ],
)
def test_options_of_any_number_of_labels_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        validate(Data, {"data": {"source": "files", "train_path": "a.csv"} | options})


def test_an_empty_cell_among_lists_is_no_empty_list(load):
    lines = [f"text {i};\"['{label}']\"" for i, label in enumerate(["pos", "neg"] * 10)]
    Path("gap.csv").write_text("\n".join(["text;label", *lines, "text 20;"]) + "\n")
    message = r"gap\.csv:22: empty label .*data\.label_separator=list reads an empty cell as none"
    with pytest.raises(DataError, match=message):
        load(train_path="gap.csv")
    corpus = load(train_path="gap.csv", label_separator="list")
    assert corpus.task == "multilabel" and corpus.class_names == ("neg", "pos")


def test_lists_as_numpy_prints_them_are_labels(load):
    cells = ["['news' 'tech']", "['tech']", "[]"] * 10
    lines = [f'text {i},"{cell}"' for i, cell in enumerate(cells)]
    Path("arrays.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    corpus = load(train_path="arrays.csv")
    assert corpus.task == "multilabel" and corpus.class_names == ("news", "tech")
    Path("arrays.csv").write_text("\n".join(["text,label", *lines, "text 30,sports"]) + "\n")
    with pytest.raises(DataError, match=r"arrays\.csv:32: 'sports' is not a list of labels"):
        load(train_path="arrays.csv", label_separator="list")


def test_lists_of_one_label_each_are_classes(load):
    def write(name: str, labels: list[list[str]]) -> None:
        lines = [
            json.dumps({"text": f"text {i}", "label": found}) for i, found in enumerate(labels)
        ]
        Path(name).write_text("\n".join(lines))

    write("train.jsonl", [["pos"], ["neg"]] * 10)
    write("test.jsonl", [["neg"], ["pos"]])
    corpus = load(train_path="train.jsonl", test_path="test.jsonl")
    assert corpus.task == "multiclass" and corpus.class_names == ("neg", "pos")
    assert corpus.test.labels.tolist() == [0, 1]
    assert corpus.source_info["train_path"]["lists_of_one"]
    corpus = load(train_path="train.jsonl", label_separator="list")
    assert corpus.task == "multilabel"
    assert "lists_of_one" not in corpus.source_info["train_path"]
    for labels, message in {
        ("neg", "pos"): "has 2 labels, and the texts before it have one each; data.label_sep",
        (): "has no label, and the texts before it have one each",
    }.items():
        write("test.jsonl", [["neg"], [*labels]])
        with pytest.raises(DataError, match=r"test\.jsonl:2: " + message):
            load(train_path="train.jsonl", test_path="test.jsonl")
    write("train.jsonl", [[0], [1]] * 10)
    assert load(train_path="train.jsonl").class_names == ("0", "1")
    Path("a.txt").write_text("__label__a x\n__label__b y\n" * 10)
    assert load(train_path="a.txt", label_column="labels").task == "multilabel"


def test_rows_without_any_value_are_no_rows(load, caplog):
    content = "".join(f"{text},{label},,\n" for text, label in rows(20))
    Path("a.csv").write_text(f"text,label,,\n{content}" + ",,,\n, ,,\n" * 20)
    with caplog.at_level("INFO"):
        corpus = load(train_path="a.csv")
    assert len(corpus.train) + len(corpus.test) == 20 and not len(corpus.skipped)
    assert "a.csv: 40 rows without any value are left out" in caplog.text
    Path("a.csv").write_text(f"text,label,,\n{content},,1,\n")
    with pytest.raises(DataError, match=r"a\.csv:22: empty text"):
        load(train_path="a.csv")


def test_classes_of_two_texts_each_are_trained_on(load):
    write_csv("a.csv", rows(200, labels=[f"c{i}" for i in range(100)]))
    corpus = load(train_path="a.csv")
    train, validation = split_validation(corpus, FilesConfig(train_path="a.csv"))
    assert (len(train), len(validation), len(corpus.test)) == (144, 16, 40)
    assert len(np.unique(corpus.train.labels[train])) == 100


def test_a_cache_in_the_folder_of_the_classes_is_no_class(tmp_path):
    """As data/cache is, by default, if the classes are folders of `data`."""
    for label in ("good", "bad"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(20):
            (tmp_path / "data" / label / f"{i}.txt").write_text(f"{label} film {i}")
    options = {"train_path": str(tmp_path / "data"), "cache_dir": str(tmp_path / "data" / "cache")}
    first = load_files(FilesConfig(source="files", **options))
    (tmp_path / "data" / "good" / "more.txt").write_text("good film")  # so that files are read
    second = load_files(FilesConfig(source="files", **options))
    assert first.class_names == second.class_names == ("bad", "good")
    assert not [file for file in files_below(tmp_path / "data") if "cache" in file.parts]
