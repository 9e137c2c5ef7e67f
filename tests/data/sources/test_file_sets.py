"""Labels that are names of files or folders, or lines of a second file."""

import json
import os
import sys
from pathlib import Path

import pytest

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.sources.file_sets import class_file_labels
from rnn_lab.data.sources.text_files import load_files
from rnn_lab.errors import DataError

TEXTS = {
    "neg": [f"a bad film {i}" for i in range(20)],
    "pos": [f"a good film {i}" for i in range(20)],
}
PAIRS = sorted((text, label) for label, texts in TEXTS.items() for text in texts)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load files of the working folder."""
    monkeypatch.chdir(tmp_path)

    def load_with(path, **options) -> Corpus:
        return load_files(FilesConfig(train_path=path, cache_dir="cache", **options))

    return load_with


def pairs(corpus: Corpus) -> list[tuple[str, str]]:
    return sorted(
        (text, corpus.class_names[label])
        for split in (corpus.train, corpus.test)
        for text, label in zip(split.texts, split.labels, strict=True)
    )


def write(path: str, content: str | bytes) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_links_are_followed_once_and_stray_files_are_named(load, caplog):
    for label, texts in TEXTS.items():
        for i, text in enumerate(texts):
            write(f"elsewhere/{label}/{i}.txt", text)
        Path("in", label).mkdir(parents=True)
        Path("in", label, "more").symlink_to(Path("elsewhere", label).absolute())
        Path("in", label, "around").symlink_to(Path("in").absolute())
    write("in/neutral.txt", "a film")
    assert pairs(load("in")) == PAIRS
    assert "in: files beside the folders of the classes are not read: neutral.txt" in caplog.text


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["rt-polarity.pos", "rt-polarity.neg"], ["pos", "neg"]),
        (["pos.txt", "neg.txt"], ["pos", "neg"]),
        (["train_pos.txt", "train_neg.txt"], ["pos", "neg"]),
        (["pos.train.txt.gz", "neg.train.txt.gz"], ["pos", "neg"]),
        (["a.txt", "b.md"], ["a", "b"]),
        (["very_bad.txt", "bad.txt", "good.txt"], ["very_bad", "bad", "good"]),
        (["1.0", "2.0"], ["1", "2"]),
    ],
)
def test_the_label_of_a_file_is_what_differs_in_its_name(names, labels):
    assert class_file_labels([Path("in", name) for name in names], "in") == labels


def test_files_of_the_same_name_have_no_labels():
    with pytest.raises(DataError, match="the files differ neither in stem nor in ending"):
        class_file_labels([Path("a/x.txt"), Path("b/x.txt")], "a and b")


def test_one_file_per_class(load):
    files = [write(f"in/rt.{label}", "\n".join(texts) + "\n\n") for label, texts in TEXTS.items()]
    write("in/README.md", "about")
    write("in/._rt.pos", b"\0\xff")
    for path in (files, "in"):
        corpus = load(path)
        assert pairs(corpus) == PAIRS
        assert corpus.source_info["train_path"]["format"] == "class files"
    assert "rt.neg:1" in {*corpus.train.names, *corpus.test.names}


def test_texts_and_labels_side_by_side(load):
    shuffled = sorted(PAIRS, key=lambda pair: pair[0][::-1])
    texts = write("in/train_texts.txt", "\n".join(text for text, _ in shuffled) + "\n\n\n")
    labels = write("in/train_labels.txt", "\n".join(label for _, label in shuffled))
    for path in ([texts, labels], [labels, texts]):
        corpus = load(path)
        assert pairs(corpus) == PAIRS
    assert corpus.source_info["train_path"]["format"] == "texts and labels"
    with pytest.raises(DataError, match=rf"data\.train_path=\[{texts},{labels}\]"):
        load(texts)
    write(labels, "\n".join(label for _, label in shuffled[:-3]))
    message = rf"^{texts}:38: has more lines than train_labels\.txt"
    with pytest.raises(DataError, match=message):
        load([texts, labels])


def test_blank_lines_beside_labels_are_faults(load):
    write("text.txt", "one\n\nthree\nfour\n")
    write("label.txt", "a\nb\n\nb\n")
    with pytest.raises(DataError, match=r"^text\.txt:2: empty text"):
        load(["text.txt", "label.txt"])
    corpus = load(
        ["text.txt", "label.txt"], on_bad_lines="skip", test_path=["text.txt", "label.txt"]
    )
    assert list(corpus.train.texts) == ["one", "four"]
    assert list(corpus.skipped)[:2] == [
        "text.txt:2: empty text",
        "text.txt:3: empty label in label.txt",
    ]


def test_a_line_that_is_blank_in_both_files_is_a_fault_unless_it_ends_them(load):
    write("text.txt", "one\n\nthree\n\n")
    write("label.txt", "a\n\nb\n")
    both = ["text.txt", "label.txt"]
    corpus = load(both, on_bad_lines="skip", test_path=both)
    assert list(corpus.train.texts) == ["one", "three"]
    assert list(corpus.skipped) == ["text.txt:2: empty text"] * 2


def test_folders_of_any_depth_and_ending(load):
    for label, texts in TEXTS.items():
        for i, text in enumerate(texts):
            write(f"in/{label}/{'part1/deep/' * (i % 2)}{i}.{('TXT', 'text', 'x')[i % 3]}", text)
        write(f"in/{label}/._0.txt", b"\0")
        write(f"in/{label}/Icon\r", b"")
        write(f"in/{label}/.hidden/1.txt", "hidden")
    write("in/__MACOSX/pos/._0.txt", b"\0")
    write("in/README.txt", "about")
    corpus = load("in")
    assert pairs(corpus) == PAIRS
    assert "pos/part1/deep/1.text" in {*corpus.train.names, *corpus.test.names}


def test_each_text_of_a_folder_may_have_its_own_encoding(load):
    for label, texts in TEXTS.items():
        for i, text in enumerate(texts):
            write(f"in/{label}/{i}", f"{text} ü".encode(("utf-8", "cp1252", "utf-16")[i % 3]))
    corpus = load("in")
    assert pairs(corpus) == sorted((f"{text} ü", label) for text, label in PAIRS)
    assert corpus.source_info["train_path"]["encoding"] == ["cp1252", "utf-16", "utf-8"]


@pytest.mark.parametrize(
    "names", [("train", "test"), ("train.csv", "dev.csv"), ("x_test.txt", "y.txt")]
)
def test_splits_never_become_classes(load, names):
    for name in names:
        write(f"in/{name}" if "." in name else f"in/{name}/pos/1.txt", "text,label\na,b\n")
    with pytest.raises(DataError, match=r"^in: has splits and not classes: ") as error:
        load("in")
    train, other = (names[0], names[1]) if "train" in names[0] else (names[1], names[0])
    option = "data.val_path" if "dev" in other else "data.test_path"
    assert {f"data.train_path=in/{train}", f"{option}=in/{other}"} <= {*str(error.value).split()}


@pytest.mark.parametrize("name", ["train_{}.txt", "test_{}.txt"])
def test_files_of_one_split_are_classes(load, name):
    for label, texts in TEXTS.items():
        write(f"in/{name.format(label)}", "\n".join(texts))
    assert pairs(load("in")) == PAIRS


def test_the_folder_in_an_unpacked_archive_is_named(load):
    write("in/reviews/pos/1.txt", "a")
    with pytest.raises(DataError, match=r"^in: needs two or more folders.* found 1 folder, in/rev"):
        load("in")


def test_several_files_with_labels_are_read_one_after_the_other(load):
    half = len(PAIRS) // 2
    write("in/a.csv", "text;label\n" + "".join(f"{t};{x}\n" for t, x in PAIRS[:half]))
    rows = [{"text": text, "label": label} for text, label in PAIRS[half:]]
    write("in/b.json", json.dumps(rows))
    assert pairs(load(["in/a.csv", "in/b.json"])) == PAIRS
    assert pairs(load("in")) == PAIRS


@pytest.mark.parametrize("name", ["données.csv", "a=b.csv", "a, b [1].csv", "текст.csv"])
def test_files_of_any_name(load, name):
    write(name, "text,label\n" + "".join(f"{t},{x}\n" for t, x in PAIRS))
    assert pairs(load(name)) == PAIRS


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf_8(load):
    odd = os.fsdecode(b"caf\xe9")
    for label in ("neg", odd):
        for i in range(10):
            write(f"folders/{label}/{odd}{i}.txt", f"text {label == odd} {i}")
        write(f"folders/{label}/{odd}.txt", b"")
        lines = "".join(f"text {label == odd} {i}\n" for i in range(10))
        write(f"files/{label}.txt", f"{lines}\0\n")
    for path in ("folders", "files"):
        corpus = load(path, on_bad_lines="skip")
        assert set(corpus.class_names) == {"neg", "caf\\udce9"}
        assert (len(pairs(corpus)), len(corpus.skipped)) == (20, 2)
        names = {*corpus.train.names, *corpus.test.names}
        assert names >= (
            {"neg/caf?0.txt", "caf?/caf?9.txt"} if path == "folders" else {"caf?.txt:1"}
        )
    with pytest.raises(DataError, match=r"caf.*\.txt: empty text"):
        load("folders")
