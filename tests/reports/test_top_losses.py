"""The examples with the highest loss come first, with their predictions."""

from collections.abc import Callable
from pathlib import Path

from rnn_lab.reports.run_files import HighLossExample, read_predictions


def test_highest_loss_first(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text(
        "name,label,prediction,length,loss,probability_neg,probability_pos\n"
        "first,pos,pos,5,0.105,0.1,0.9\n"
        "second,neg,pos,9,4.605,0.01,0.99\n"
        "third,pos,neg,2,0.916,0.6,0.4\n"
        "fourth,neg,neg,2,0.105,0.9,0.1\n"
    )
    test = read_predictions(tmp_path)
    assert test.top_losses(2) == [
        HighLossExample("second", "neg", "pos", 0.99, 4.605),
        HighLossExample("third", "pos", "neg", 0.6, 0.916),
    ]
    assert [example.name for example in test.top_losses(10)] == [
        "second", "third", "first", "fourth",
    ]  # fmt: skip


def test_as_many_as_asked(make_run: Callable[..., Path]) -> None:
    losses = [example.loss for example in read_predictions(make_run(examples=500)).top_losses(50)]
    assert len(losses) == 50
    assert losses == sorted(losses, reverse=True)
