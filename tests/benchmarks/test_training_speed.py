import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contenders import (
    COMPILED,
    GATHERED_BF16,
    OURS,
    OURS_BF16,
    PACKED,
    PRODUCT,
    PRODUCT_BF16,
    TUTORIAL,
    UNPACKED,
    UNPACKED_BF16,
)
from benchmarks.training_speed import (
    HEADER,
    TARGET_HEADER,
    Key,
    Rounds,
    fastest_keys,
    result_rows,
    table_rows,
    target_rows,
)

TOKENS = 200.0
NAMES = {
    "ours": OURS,
    "bf16": OURS_BF16,
    "packed": PACKED,
    "tutorial": TUTORIAL,
    "unpacked": UNPACKED,
    "unpacked_bf16": UNPACKED_BF16,
    "compiled": COMPILED,
    "gathered_bf16": GATHERED_BF16,
}


def group(model: str = "lstm", size: int = 128, **rates: float) -> Rounds:
    """Return a round: reviews/s in one direction, half as many in both, 80 % with one thread."""
    both = {
        (NAMES[name], directions): rate / directions
        for name, rate in ({"unpacked": 300.0} | rates).items()
        for directions in (1, 2)
    }
    row = {
        Key(name, directions, threads): rate * (1.0 if threads == 2 else 0.8)
        for (name, directions), rate in both.items()
        for threads in (1, 2)
    }
    products = {Key(PRODUCT): 1e11, Key(PRODUCT_BF16): 4e11}
    return Rounds(model, size, TOKENS, dict.fromkeys(both, 0.02), [row | products])


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
    assert measured.share(measured.best(OURS, directions)) == pytest.approx(
        flops_a_review * reviews_per_second / 1e11
    )


def test_each_contender_goes_on_with_its_fastest_thread_count() -> None:
    first = {Key(PACKED, 1, 1): 50.0, Key(PACKED, 1, 2): 40.0}
    first |= {Key(OURS, 1, 1): 500.0, Key(OURS, 1, 2): 900.0, Key(PRODUCT): 1e11}
    assert fastest_keys(first) == {Key(PACKED, 1, 1), Key(OURS, 1, 2), Key(PRODUCT)}
    # Later rounds have only the chosen ones; ratios are between those.
    later = {Key(PACKED, 1, 1): 40.0, Key(OURS, 1, 2): 1000.0}
    rounds = Rounds("lstm", 128, TOKENS, {(OURS, 1): 0.0, (PACKED, 1): 0.0}, [first, later, later])
    assert rounds.ratio(OURS, PACKED) == 25
    packed = next(row for row in result_rows([rounds]) if row["contender"] == PACKED)
    assert packed["threads"] == 1
    assert packed["reviews_per_second"] == 40
    assert packed["by_threads"] == {"1": 50.0, "2": 40.0}


def test_the_table_has_a_row_for_each_contender() -> None:
    rows = [
        dict(zip(HEADER, row, strict=True))
        for row in table_rows([group(ours=700.0, bf16=1400.0, packed=40.0)])
    ]
    assert len(rows) == 8
    bf16 = next(row for row in rows if row["contender"] == OURS_BF16)
    assert bf16["reviews/s"] == "1,400"
    assert (bf16["threads"], bf16["with 1 thread"], bf16["with all"]) == ("2", "1,120", "1,400")
    assert (bf16["tokens/s"], bf16["padding"], bf16["of matmul rate"]) == (
        "280,000",
        "2.0 %",
        "55.1 %",
    )
    assert bf16["vs packed"] == "35.0x"
    states = {row["contender"]: row["final states"] for row in rows}
    assert states[PACKED] == "correct"
    assert states[UNPACKED].startswith("WRONG")


def targets(*groups: Rounds) -> dict[str, tuple[str, ...]]:
    """Return the cells right of each target, without where a worst case was."""
    rows = target_rows(list(groups))
    assert all(len(row) == len(TARGET_HEADER) for row in rows)
    return {row[0].partition(" (")[0]: row[1:] for row in rows}


def test_both_precisions_have_bars_over_packed() -> None:
    found = targets(group(ours=450.0, bf16=700.0, packed=40.0))
    assert found["LSTM 128/128, ours, float32, over torch, packed"] == ("10x", "11.2x", "yes")
    assert found["LSTM 128/128, ours, bfloat16, over torch, packed"] == ("20x", "17.5x", "NO")
    wide = targets(group(size=256, ours=130.0, packed=10.0))
    assert wide["LSTM 256/256, ours, float32, over torch, packed"] == ("12x", "13.0x", "yes")
    assert not any("bfloat16" in name for name in wide)
    gru = targets(group("gru", ours=500.0, bf16=900.0, packed=40.0))
    assert gru["GRU 128/128, ours, bfloat16, over torch, packed"] == ("20x", "22.5x", "yes")


def test_the_fastest_correct_peer_decides() -> None:
    what = "fastest precision over the fastest correct peer, worst case"
    rates = {"ours": 700.0, "bf16": 1400.0, "packed": 40.0}
    assert targets(group(**rates, compiled=500.0))[what] == ("2x", "2.80x", "yes")
    assert targets(group(**rates, compiled=1000.0))[what] == ("2x", "1.40x", "NO")
    assert targets(group(**rates, gathered_bf16=1000.0))[what] == ("2x", "1.40x", "NO")
    # Those with wrong states are no peers.
    wrong = {"tutorial": 1000.0, "unpacked": 1000.0, "unpacked_bf16": 1000.0}
    assert targets(group(**rates, **wrong))[what] == (
        "2x",
        "35.00x",
        "yes",
    )


def test_no_cell_and_size_may_be_slower_than_unpacked() -> None:
    what = "over torch, unpacked, in the same precision, worst case"
    fast, slow = group(ours=700.0, packed=40.0), group("rnn", ours=270.0, packed=40.0)
    assert targets(fast)[what] == ("1x", "2.33x", "yes")
    assert targets(fast, slow)[what] == ("1x", "0.90x", "NO")
    both = {"ours": 700.0, "packed": 40.0, "bf16": 900.0, "unpacked_bf16": 1000.0}
    assert targets(group(**both))[what] == ("1x", "0.90x", "NO")
    where = next(row[0] for row in target_rows([fast, slow]) if row[0].startswith(what))
    assert "rnn 128/128" in where
