import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contenders import OURS, OURS_BF16, PACKED, PRODUCT, PRODUCT_BF16, TUTORIAL, UNPACKED
from benchmarks.training_speed import HEADER, TARGET_HEADER, Key, Rounds, table_rows, target_rows

TOKENS = 200.0


def group(model: str = "lstm", **rates: float) -> Rounds:
    """Return one round: reviews/s in one direction, half as many in both."""
    names = {"ours": OURS, "bf16": OURS_BF16, "packed": PACKED, "tutorial": TUTORIAL}
    row = {Key(names[name], 1): rate for name, rate in rates.items()}
    row |= {Key(name, 2): rate / 2 for (name, _), rate in row.items()}
    padding = dict.fromkeys(row, 0.02)
    return Rounds(
        model,
        128,
        TOKENS,
        padding,
        [row | {Key(PRODUCT): 1e11, Key(PRODUCT_BF16): 4e11}],
    )


@pytest.mark.parametrize(("model", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
@pytest.mark.parametrize("directions", [1, 2])
def test_flops_are_those_of_the_matrix_products(model: str, gates: int, directions: int) -> None:
    size = 128
    inputs, weights = torch.randn(64, size), torch.randn(gates * size, size)
    inputs.requires_grad_()
    weights.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        for _ in range(2 * directions):  # one product with the inputs, one with the state
            (inputs @ weights.t()).sum().backward()
    flops_a_review = counter.get_total_flops() / 64 * TOKENS

    measured = group(model, ours=100.0)
    reviews_per_second = 100.0 / directions
    assert measured.share(Key(OURS, directions)) == pytest.approx(
        flops_a_review * reviews_per_second / 1e11
    )


def test_the_table_has_a_row_for_each_contender() -> None:
    rows = list(table_rows([group(ours=700.0, bf16=1400.0, packed=40.0)]))
    assert [len(row) for row in rows] == [len(HEADER)] * 6
    assert rows[1][3:7] == (OURS_BF16, "1,400", "280,000", "2.0 %")
    assert rows[1][-1] == "35.0x"


def test_targets_apply_to_the_fastest_precision() -> None:
    met = {row[0]: row for row in target_rows([group(ours=700.0, bf16=1400.0, packed=40.0)])}
    assert all(len(row) == len(TARGET_HEADER) for row in met.values())
    assert met["LSTM 128/128 over torch, packed"][2:] == ("35.0x", "17.5x", "yes")
    missed = {row[0]: row for row in target_rows([group(ours=700.0, bf16=1300.0, packed=40.0)])}
    assert missed["LSTM 128/128 over torch, packed"][2:] == ("32.5x", "17.5x", "NO")


def test_a_faster_peer_is_reported() -> None:
    def last(**rates: float) -> tuple[str, ...]:
        return target_rows([group(ours=700.0, bf16=1400.0, packed=40.0, **rates)])[-1]

    assert last(tutorial=500.0)[2:] == ("2.80x", "1.40x", "yes")
    assert last(tutorial=1000.0)[2:] == ("1.40x", "0.70x", "NO")
    assert UNPACKED not in last(tutorial=500.0)
