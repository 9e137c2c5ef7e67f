import numpy as np

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.vocabulary import SPECIALS, WordTokenizer
from rnn_lab.training.data_report import (
    print_data_summary,
    print_pseudo_labels,
    print_source_info,
    report_groups,
    warn_never_predicted,
    warn_rare_classes,
    warn_unlikely_classes,
    write_skipped_rows,
)


def set_up(tmp_path, rows: list[str], *, labels_by=None, **options) -> TextDataModule:
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    paths = {"train_path": str(tmp_path / "a.csv"), "cache_dir": str(tmp_path / "cache")}
    config = FilesConfig(**(paths | options))
    data = TextDataModule(config, teacher=labels_by)
    data.setup()
    return data


GOOD = [f"text number {i},{'ab'[i % 2]}" for i in range(40)]


def test_what_was_inferred_is_one_line_of_options(tmp_path, capsys):
    print_source_info(set_up(tmp_path, GOOD).corpus)
    assert capsys.readouterr().out == (
        f"Read {tmp_path}/a.csv with data.format=csv data.encoding=utf-8 data.delimiter=comma "
        "data.quotechar=double data.header=true data.text_column=text data.label_column=label\n"
    )


def test_files_that_were_read_alike_are_one_line(tmp_path, capsys):
    (tmp_path / "b.csv").write_text("\n".join(["text,label", *GOOD[:9]]))
    print_source_info(set_up(tmp_path, GOOD, test_path=str(tmp_path / "b.csv")).corpus)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"Read {tmp_path}/a.csv and {tmp_path}/b.csv with data.format=csv ")


def test_files_of_a_list_that_were_read_in_another_way_are_a_line_each(tmp_path, capsys):
    (tmp_path / "b.csv").write_text("\n".join(["text,label", *GOOD[:9]]))
    rows = (f'{{"text": "more {i}", "label": "{"ab"[i % 2]}"}}' for i in range(9))
    (tmp_path / "c.jsonl").write_text("\n".join(rows))
    paths = [f"{tmp_path}/{name}" for name in ("a.csv", "b.csv", "c.jsonl")]
    print_source_info(set_up(tmp_path, GOOD, train_path=paths).corpus)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"Read {paths[0]}, {paths[1]} with data.format=csv ")
    assert second == (
        f"Read {paths[2]} with data.format=jsonl data.encoding=utf-8 data.text_column=text "
        "data.label_column=label"
    )


def test_a_file_of_several_splits_is_named_once(tmp_path, capsys):
    path = str(tmp_path / "a.csv")
    print_source_info(set_up(tmp_path, GOOD, val_path=path, test_path=path).corpus)
    assert capsys.readouterr().out.startswith(f"Read {path} with data.format=csv ")


def test_columns_without_a_header_are_numbers_as_one_types_them(tmp_path, capsys):
    """In quotes they would be names: docs/command_line.md."""
    path = tmp_path / "b.csv"
    path.write_text("".join(f"first {i},second {i},{'ab'[i % 2]}\n" for i in range(40)))
    options = {"header": False, "text_column": [0, 1], "label_column": 2}
    print_source_info(set_up(tmp_path, GOOD, train_path=str(path), **options).corpus)
    line = capsys.readouterr().out
    assert line.endswith("data.header=false 'data.text_column=[0,1]' data.label_column=2\n")


def test_a_format_that_is_no_option(tmp_path, capsys):
    for label in "ab":
        (tmp_path / "in" / label).mkdir(parents=True)
        for i in range(10):
            (tmp_path / "in" / label / str(i)).write_text(f"text {i}")
    config = FilesConfig(train_path=str(tmp_path / "in"), cache_dir=str(tmp_path / "cache"))
    data = TextDataModule(config)
    data.setup()
    print_source_info(data.corpus)
    expected = f"Read {tmp_path}/in as class folders with data.encoding=utf-8\n"
    assert capsys.readouterr().out == expected


def test_skipped_rows_are_listed_in_a_file_that_the_screen_names(tmp_path, capsys):
    data = set_up(tmp_path, [*GOOD, ",a", "x,"], on_bad_lines="skip")
    folder = tmp_path / "run"
    write_skipped_rows(data.corpus, folder)
    assert capsys.readouterr().out == (
        f"2 of 42 rows cannot be used and were skipped; {folder}/skipped_rows.txt lists them\n"
    )
    listed = "a.csv:42: empty text\na.csv:43: empty label\n"
    assert (folder / "skipped_rows.txt").read_text() == listed
    write_skipped_rows(set_up(tmp_path, GOOD).corpus, folder)
    assert capsys.readouterr().out == ""
    assert not (folder / "skipped_rows.txt").exists()


def test_rare_classes_are_a_warning_with_their_names(tmp_path, caplog):
    rows = [*GOOD, "once,c", "one,d", "two,d", "three,d"]
    warn_rare_classes(set_up(tmp_path, rows))
    single, few = (record.getMessage() for record in caplog.records)
    assert single == (
        "Classes with one text, which is in training and can be neither validated nor tested: 'c'"
    )
    assert few == "Classes with fewer than 5 training texts: 'd' (train 1, validation 1, test 1)"
    caplog.clear()
    pairs = [f"text {i},c{i % 9}" for i in range(18)]
    warn_rare_classes(set_up(tmp_path, [*GOOD, *pairs], val_split="random", val_fraction=0.4))
    untrained = caplog.records[0].getMessage()
    assert untrained.startswith("Classes without a training text: ") and "(train 0, " in untrained
    caplog.clear()
    warn_rare_classes(set_up(tmp_path, GOOD))
    assert not caplog.records


def test_own_texts_are_summarized_before_training(tmp_path, capsys):
    rows = [f"{'so ' * (1 + i % 5)}good {i},{'ab'[i % 4 == 0]}" for i in range(100)]
    print_data_summary(set_up(tmp_path, rows))
    splits, tokens = capsys.readouterr().out.splitlines()
    assert splits == "Texts: train 72, validation 8, test 20; 2 classes: a 75.0%, b 25.0%"
    # "so" one to five times, "good" and a number, of which validation has others than training
    assert tokens.startswith("Tokens of a training text: median 5, longest 7; ")
    assert "data.max_length=16 cuts 0.0% of them" in tokens


class Constant:
    """A teacher that gives the first class a probability of 0.81 in every text."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.key = {"name": "constant"}

    def probabilities(self, encode) -> np.ndarray:
        texts = encode(WordTokenizer([*SPECIALS, "more"]))
        found = np.full((len(texts), len(self.class_names)), 0.01, np.float32)
        found[:, 0] += 0.8
        return found


def test_pseudo_labels_of_many_classes_are_one_short_line(tmp_path, capsys):
    classes = tuple(sorted(["\x1b[31mred", *(f"class{i}" for i in range(12))]))
    rows = [f"text {i},{name}" for i in range(20) for name in classes]
    (tmp_path / "more.txt").write_text("more\n" * 8)
    options = {"unlabelled": str(tmp_path / "more.txt"), "teacher": "run"}
    print_pseudo_labels(set_up(tmp_path, rows, labels_by=Constant(classes), **options))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Pseudo-labels: 8 of 8 unlabelled texts, with a probability of 0.8 or ")
    assert r"more: \x1b[31mred 100.0%, class0 0.0%, " in line
    assert "class6 0.0% and 3 more; 0 are also labelled training" in line


def test_few_texts_are_a_warning(tmp_path, caplog):
    print_data_summary(set_up(tmp_path, GOOD[:10]))
    assert "one of 2 validation texts is 50% and one of 2 test texts is 50% of the" in caplog.text
    caplog.clear()
    print_data_summary(set_up(tmp_path, GOOD * 10))
    assert caplog.text == ""


def test_folds_are_advised_where_they_are_possible(tmp_path, caplog):
    print_data_summary(set_up(tmp_path, GOOD))
    assert "; a sweep over data.folds=5 data.fold=0,1,2,3,4 tests on every" in caplog.text
    caplog.clear()
    print_data_summary(set_up(tmp_path, GOOD, folds=3, fold=0))
    print_data_summary(set_up(tmp_path, GOOD, test_path=str(tmp_path / "a.csv")))
    warnings = [record.getMessage() for record in caplog.records if "Few" in record.getMessage()]
    assert len(warnings) == 2 and all(line.endswith(" of the accuracy") for line in warnings)


def test_any_number_of_labels_is_summarized_with_the_texts_without_one(tmp_path, capsys):
    rows = [f"good {i},{('a;b', '', 'a', 'a')[i % 4]}" for i in range(100)]
    print_data_summary(set_up(tmp_path, rows, label_separator=";"))
    assert "; 2 labels: a 75.0%, b 25.0%; none 25.0%" in capsys.readouterr().out


def test_texts_that_the_tokenizer_does_not_cut_are_a_warning(tmp_path, caplog):
    rows = [f"{chr(0x4E00 + i)}{chr(0x5E00 + i)},{'ab'[i % 2]}" for i in range(60)]
    print_data_summary(set_up(tmp_path, rows, tokenizer="basic_english"))
    assert "data.tokenizer=bpe" in caplog.text


def test_classes_that_join_labels_or_differ_in_case_are_a_warning(tmp_path, caplog):
    names = ("billing", "billing|vip", "vip|billing", "login|vip", "Login|vip", "vip")
    warn_unlikely_classes(set_up(tmp_path, [f"text {i},{names[i % 6]}" for i in range(60)]))
    joined, alike = (record.getMessage() for record in caplog.records)
    assert joined == (
        "4 of 6 classes have | in their names, which separates 4 labels; if a text may have any "
        "number of labels: data.label_separator=pipe"
    )
    assert alike == "Classes that differ only in case or spaces: 'Login|vip' and 'login|vip'"
    caplog.clear()
    cells = ["['a' 'b']", "['a']", "['b']", "a, b"]
    rows = [f'text {i},"{cells[i % 4]}"' for i in range(60)]
    warn_unlikely_classes(set_up(tmp_path, rows))
    assert caplog.records[0].getMessage() == (
        "3 of 4 classes are lists of labels, and 'a, b' is not; if a text may have any number of "
        "labels: data.label_separator=list"
    )
    caplog.clear()
    for rows in (GOOD, [f"text {i},{('a|b', 'c|d', 'a|d')[i % 3]}" for i in range(60)]):
        warn_unlikely_classes(set_up(tmp_path, rows))
    rows = [f"text {i},{names[i % 4]}" for i in range(60)]
    warn_unlikely_classes(set_up(tmp_path, rows, label_separator="pipe"))
    assert not caplog.records


def test_a_class_that_a_split_lacks_is_a_warning(tmp_path, caplog):
    rows = [f"other {i},{'abc'[i % 3]}" for i in range(60)]
    (tmp_path / "test.csv").write_text("\n".join(["text,label", *GOOD[:9]]))
    warn_rare_classes(set_up(tmp_path, rows, test_path=str(tmp_path / "test.csv")))
    (record,) = caplog.records
    assert record.getMessage() == (
        "Classes without texts in validation or test: 'c' (train 18, validation 2, test 0)"
    )


def test_a_class_that_is_never_predicted_is_a_warning(caplog):
    labels, predicted = np.array([0, 1, 1, 2]), np.array([0, 0, 0, 3])
    warn_never_predicted(labels, predicted, ("a", "b", "c", "d", "e"))
    (record,) = caplog.records
    assert record.getMessage() == ("Classes that are never predicted on the test split: 'b', 'c'")
    caplog.clear()
    warn_never_predicted(labels, labels, ("a", "b", "c", "d", "e"))
    assert not caplog.records


def test_groups_are_counted_and_shared_ones_are_a_warning(tmp_path, capsys, caplog):
    rows = [f"text number {i},{'ab'[i % 2]},author {i // 4}" for i in range(80)]
    rows[0] = "text,label,author\n" + rows[0]
    (tmp_path / "g.csv").write_text("\n".join(rows))
    (tmp_path / "t.csv").write_text("text,label,author\nx,a,author 3\ny,b,author 99\nz,a,\n")
    options = {"train_path": str(tmp_path / "g.csv"), "group_column": "author"}
    for test_path in (None, str(tmp_path / "t.csv")):
        config = FilesConfig(**options, test_path=test_path, cache_dir=str(tmp_path / "cache"))
        data = TextDataModule(config)
        data.setup()
        assert data.config.val_split == "by_group"
        report_groups(data)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "Groups by data.group_column=author: 14 in train, 2 in validation, 4 in test"
    assert second == "Groups by data.group_column=author: 18 in train, 2 in validation, 2 in test"
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("data.group_column=author: 1 of 2 groups in test are also in ")


def test_lists_of_one_label_are_said_with_the_option_that_keeps_them(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "text {i}", "label": ["{i % 2}"]}}\n' for i in range(20)))
    data = TextDataModule(FilesConfig(train_path=str(path), cache_dir=str(tmp_path / "cache")))
    data.setup()
    print_source_info(data.corpus)
    assert capsys.readouterr().out == (
        f"Read {path} with data.format=jsonl data.encoding=utf-8 data.text_column=text "
        "data.label_column=label; each list has one label, so each text has one class "
        "(data.label_separator=list: any number)\n"
    )
