"""Numbers and names are formatted as tables, plots and pages show them."""

import pytest

from rnn_lab.reports.formatting import (
    format_cell,
    format_count,
    format_data,
    format_duration,
    format_metric,
    format_metric_name,
    order_metrics,
    plot_label,
    shorten,
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("lstm", "LSTM"),
        ("gru", "GRU"),
        ("rnn", "RNN"),
        ("minlstm", "minLSTM"),
        ("mingru", "minGRU"),
        ("peephole_lstm", "peephole LSTM"),
        ("my_cell", "my cell"),
    ],
)
def test_cells_are_named_as_in_papers(name: str, shown: str) -> None:
    assert format_cell(name) == shown


@pytest.mark.parametrize(
    ("name", "synthetic", "shown"),
    [
        ("imdb", False, "IMDB reviews"),
        ("demo", True, "synthetic demo reviews"),
        ("sums", True, "synthetic sums"),
        ("files", False, "files"),
    ],
)
def test_generated_data_is_called_synthetic(name: str, synthetic: bool, shown: str) -> None:
    assert format_data({"data": {"name": name}, "synthetic": synthetic}) == shown


def test_metrics_have_a_name_and_a_unit() -> None:
    assert format_metric_name("val/f1") == "validation F1 (macro)"
    assert format_metric_name("test/specificity") == "test specificity"
    assert format_metric("val/accuracy", 0.87654) == "87.65 %"
    assert format_metric("test/loss", 0.34567) == "0.3457"
    assert format_metric("auroc", None) == format_metric("auroc", float("nan")) == "-"


def test_built_in_metrics_come_first_and_other_keys_are_left_out() -> None:
    found = ["test/mine", "seed", "val/mine", "test/f1", "val/loss", "val/accuracy", "val/loss"]
    assert order_metrics(found) == ["val/accuracy", "val/loss", "val/mine", "test/f1", "test/mine"]


def test_durations_and_counts() -> None:
    shown = [format_duration(seconds) for seconds in (0.4, 59.4, 60, 3599, 3600, 7400)]
    assert shown == ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "2 h 3 min"]
    assert [format_count(n, "run") for n in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]


def test_long_texts_keep_their_ends() -> None:
    assert shorten("a b\n c", 5) == "a b c"
    for length in (17, 18, 24):
        cut = shorten("abcdefghij" * 5, length)
        assert len(cut) == length and cut.startswith("abcdefgh") and cut.endswith("ghij")
    assert plot_label("$x$\x1b") == "\\$x\\$\N{REPLACEMENT CHARACTER}"


def test_labels_in_other_scripts():
    assert plot_label("क्\u200dष") == "क्\u200dष"
    for word in ("سی\u200cب", "טוב"):  # a number beside it stays where it is
        assert plot_label(word) == f"\u2068{word}\u2069"
