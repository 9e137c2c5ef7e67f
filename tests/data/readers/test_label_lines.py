import pytest

from rnn_lab.data.readers.label_lines import are_label_lines
from rnn_lab.data.readers.records import BadRow, ReadOptions, Record, RecordReader
from rnn_lab.errors import DataError

FASTTEXT = ["__label__good a film", "__label__so-so  two words ", "__label__bad\tthe end"]
TREC = ["NUM:dist How far ?", "HUM:ind Who wrote it ?", "NUM:date When ?"] * 10
WORDS = [f"{('pos', 'neg')[i % 2]} text number {i}" for i in range(60)]
QUESTIONS = [f"{('What', 'Who', 'How')[i % 3]} is number {i} ?" for i in range(600)]


@pytest.mark.parametrize("lines", [FASTTEXT, TREC, WORDS, ["", *WORDS], [*TREC * 10, "NUM:x"]])
def test_lines_with_labels(lines):
    assert are_label_lines(lines, by_form=False) or are_label_lines(lines, by_form=True)


@pytest.mark.parametrize("lines", [[], QUESTIONS, WORDS[:4], [f"{i} text" for i in range(50)]])
def test_lines_without(lines):
    assert not are_label_lines(lines, by_form=False)
    assert not are_label_lines(lines, by_form=True)


def read(path, **options) -> list:
    return list(RecordReader(path, ReadOptions(prefix="data.", **options), labelled=True))


def test_fasttext(tmp_path):
    path = tmp_path / "train.txt"
    bad = ["", "__label__bad", "no label", "__label__a __label__b both"]
    path.write_text("\n".join([*FASTTEXT * 40, *bad]))
    found = read(path, label_column="label")
    assert found[120:] == [
        BadRow(122, "has a label but no text"),
        BadRow(123, "has no __label__"),
        BadRow(124, "has more than one label; data.label_column=labels reads any number"),
    ]
    path.write_text("\n".join(FASTTEXT * 40))
    found = read(path)
    assert found[:3] == [
        Record(1, "a film", "good"),
        Record(2, "two words ", "so-so"),
        Record(3, "the end", "bad"),
    ]


SEVERAL = [
    *("__label__a __label__2.0 a film", "__label__b the end", "no label at all"),
    *("__label__a trailing __label__b", "__label__a __label__a twice"),
]


def test_fasttext_with_any_number_of_labels(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("\n".join(SEVERAL * 4))
    reader = RecordReader(path, ReadOptions(), labelled=True)
    assert list(reader)[:5] == [
        Record(1, "a film", ("a", "2")),
        Record(2, "the end", ("b",)),
        Record(3, "no label at all", ()),
        Record(4, "trailing ", ("a", "b")),
        Record(5, "twice", ("a",)),
    ]
    assert reader.info.as_dict()["label_column"] == "labels"
    # A file like it, where each text has one label; and by option.
    path.write_text("\n".join(FASTTEXT * 4))
    like = RecordReader(path, ReadOptions(), labelled=True, like=reader.info)
    assert next(iter(like)) == Record(1, "a film", ("good",))
    for options in ({"label_column": "labels"}, {"label_separator": "__label__"}):
        assert read(path, **options)[0] == Record(1, "a film", ("good",))


def test_joined_labels_of_other_lines_are_split(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a;b some text\nb other text\n" * 10)
    rows = read(path, format="label_text", label_separator=";")
    assert [row.label for row in rows[:2]] == [("a", "b"), ("b",)]


def test_coarse_labels_are_up_to_the_colon(tmp_path):
    path = tmp_path / "questions.label"
    path.write_text("\n".join(TREC))
    assert {row.label for row in read(path)} == {"NUM:dist", "HUM:ind", "NUM:date"}
    assert {row.label for row in read(path, label_column="coarse")} == {"NUM", "HUM"}


def test_lines_that_are_not_plain_name_the_option_that_reads_them(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text("\n".join(QUESTIONS))
    with pytest.raises(DataError, match=r"plain text has no labels; data\.format=label_text"):
        read(path)
    assert read(path, format="label_text")[0] == Record(1, "is number 0 ?", "What")


@pytest.mark.parametrize("delimiter", ["\t", ";", "|", ","])
def test_a_table_with_another_ending(tmp_path, delimiter):
    path = tmp_path / "SMSSpamCollection"
    texts = [f"Go until jurong point number {i}{' very' * (i % 7)} late" for i in range(60)]
    labels = ["ham" if i % 3 else "spam" for i in range(60)]
    pairs = list(zip(labels, texts, strict=True))
    path.write_text("\n".join(delimiter.join(pair) for pair in pairs))
    assert [(row.label, row.text) for row in read(path)] == pairs


def test_binary_files_are_refused(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\x7fELF\0\0\n" * 50)
    with pytest.raises(DataError, match="a: is a binary file; formats that are read: "):
        read(path)
