"""Evaluate the rounds of throughput.py: the table, and the targets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.clock import median, median_ratio
from benchmarks.contenders import (
    IN_BF16,
    INCORRECT,
    OURS,
    OURS_BF16,
    PACKED,
    PRODUCT,
    PRODUCT_BF16,
    UNPACKED,
    UNPACKED_BF16,
)

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
HEADER = (
    *("model", "size", "directions", "contender", "final states"),
    *("reviews/s", "threads", "with 1 thread", "with all"),
    *("tokens/s", "padding", "of matmul rate", "vs packed"),
)
TARGET_HEADER = ("target", "at least", "measured", "met")

# model, size, our precision (None: the fastest one), and the required ratio to PACKED
RATIOS: list[tuple[str, int, str | None, float]] = [
    ("lstm", 128, OURS, 10),
    ("lstm", 128, OURS_BF16, 20),
    ("lstm", 256, OURS, 12),
    ("lstm", 256, OURS_BF16, 30),
    ("gru", 128, None, 20),
]
# model, size, our precision, and the required share of the rate of a matrix product
SHARES: list[tuple[str, int, str, float]] = [
    ("lstm", 128, OURS, 0.60),
    ("lstm", 256, OURS, 0.90),
    ("lstm", 128, OURS_BF16, 0.40),
]
WIDEST_BIDIRECTIONAL = 2.2  # the time of two directions over that of one
LEAST_OVER_PEERS = 2.0  # the fastest precision over the fastest correct peer
LEAST_OVER_UNPACKED = 1.0  # over torch's layer on our padded batches in the same precision


class Key(NamedTuple):
    """A contender, its number of directions and of threads; a matrix product has neither."""

    contender: str
    directions: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Rounds:
    """The rounds of all contenders of one model and size."""

    model: str
    size: int
    tokens_per_review: float
    padding: dict[tuple[str, int], float]  # by contender and directions: share of its positions
    rounds: list[dict[Key, float]]  # reviews/s of contenders, FLOP/s of matrix products

    def best(self, contender: str, directions: int = 1) -> Key:
        """Return the contender with the number of threads that was fastest in the first round."""
        return _fastest(self.rounds[0])[contender, directions]

    def rate(self, key: Key) -> float:
        """Return reviews/s, the median over rounds."""
        return median(self.rounds, key)

    def ratio(self, over: str, under: str, directions: int = 1) -> float:
        """Return the speed of `over` relative to `under`, both at their best thread count."""
        return median_ratio(self.rounds, self.best(over, directions), self.best(under, directions))

    def share(self, key: Key) -> float:
        """Return the layer's FLOP/s on real tokens, relative to those of a matrix product."""
        product = Key(PRODUCT_BF16 if key.contender in IN_BF16 else PRODUCT)
        forward = 2 * GATES[self.model] * self.size * (self.size + self.size)  # per token
        flops = 3 * forward * key.directions * self.tokens_per_review  # per review, with backward
        return flops * median_ratio(self.rounds, key, product)

    def ours(self) -> list[str]:
        """Return the precisions that ours was measured in, fastest first."""
        # In one direction, where that was measured.
        measured = dict(sorted(self.padding, key=lambda key: -key[1]))
        measured = {name: n for name, n in measured.items() if name in (OURS, OURS_BF16)}
        return sorted(measured, key=lambda name: -self.rate(self.best(name, measured[name])))


def fastest_keys(first_round: dict[Key, float]) -> set[Key]:
    """Return each contender with its fastest number of threads."""
    return set(_fastest(first_round).values())


def _fastest(first_round: dict[Key, float]) -> dict[tuple[str, int], Key]:
    ordered = sorted(first_round, key=lambda key: first_round[key])
    return {(key.contender, key.directions): key for key in ordered}


def result_rows(groups: list[Rounds]) -> Iterator[dict[str, Any]]:
    """Yield the measurement of each contender in plain types, for a file."""
    for group in groups:
        for (contender, directions), padding in group.padding.items():
            best = group.best(contender, directions)
            first = group.rounds[0]
            yield {
                "model": group.model,
                "size": group.size,
                "directions": directions,
                "contender": contender,
                "correct": contender not in INCORRECT,
                "reviews_per_second": group.rate(best),
                "threads": best.threads,
                # In the first round, where every number of threads was tried.
                "by_threads": {
                    str(key.threads): first[key]
                    for key in sorted(first)
                    if key[:2] == (contender, directions)
                },
                "tokens_per_second": group.rate(best) * group.tokens_per_review,
                "padding": padding,
                "share_of_matmul_rate": group.share(best),
                "over_packed": group.ratio(contender, PACKED, directions),
            }


def table_rows(groups: list[Rounds]) -> Iterator[tuple[str, ...]]:
    """Yield the rows below HEADER."""
    for row in result_rows(groups):
        by_threads = list(row["by_threads"].values())  # one, and all
        yield (
            row["model"],
            f"{row['size']}/{row['size']}",
            str(row["directions"]),
            row["contender"],
            "correct" if row["correct"] else "WRONG: after the padding",
            _rate(row["reviews_per_second"]),
            str(row["threads"]),
            _rate(by_threads[0]),
            _rate(by_threads[-1]),
            f"{row['tokens_per_second']:,.0f}",
            f"{100 * row['padding']:.1f} %",
            f"{100 * row['share_of_matmul_rate']:.1f} %",
            f"{row['over_packed']:.1f}x",
        )


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def target_rows(groups: list[Rounds]) -> list[tuple[str, ...]]:
    """Return the rows below TARGET_HEADER for the measured models and sizes."""
    measured = {(g.model, g.size): g for g in groups if (OURS, 1) in g.padding}
    return [*_ratio_targets(measured), *_share_targets(measured), *_worst_case_targets(groups)]


def _ratio_targets(measured: dict[tuple[str, int], Rounds]) -> Iterator[tuple[str, ...]]:
    for model, size, precision, least in RATIOS:
        group = measured.get((model, size))
        if group and (precision is None or precision in group.ours()):
            ours = precision or group.ours()[0]
            what = f"{model.upper()} {size}/{size}, {ours}, over {PACKED}"
            ratio = group.ratio(ours, PACKED)
            yield what, f"{least:g}x", f"{ratio:.1f}x", _met(ratio >= least)


def _share_targets(measured: dict[tuple[str, int], Rounds]) -> Iterator[tuple[str, ...]]:
    for model, size, ours, least in SHARES:
        group = measured.get((model, size))
        if group and ours in group.ours():
            share = group.share(group.best(ours))
            what = f"{model.upper()} {size}/{size}, {ours}, of the matmul rate"
            yield what, f"{100 * least:.0f} %", f"{100 * share:.0f} %", _met(share >= least)


def _worst_case_targets(groups: list[Rounds]) -> Iterator[tuple[str, ...]]:
    times = [
        (median_ratio(group.rounds, group.best(ours, 1), group.best(ours, 2)), _where(group, ours))
        for group in groups
        for ours in group.ours()[:1]
        if {(ours, 1), (ours, 2)} <= group.padding.keys()
    ]
    if times:
        widest, where = max(times)
        what = f"time of both directions over one, worst case ({where})"
        most, is_met = f"at most {WIDEST_BIDIRECTIONAL}x", widest <= WIDEST_BIDIRECTIONAL
        yield what, most, f"{widest:.2f}x", _met(is_met)
    least, where = min(over for group in groups for over in _over_correct_peers(group))
    what = f"fastest precision over the fastest correct peer, worst case ({where})"
    yield what, f"{LEAST_OVER_PEERS:g}x", f"{least:.2f}x", _met(least >= LEAST_OVER_PEERS)
    least, where = min(
        (group.ratio(ours, name, directions), f"{_where(group, ours)}, {directions} directions")
        for group in groups
        for ours, unpacked in ((OURS, UNPACKED), (OURS_BF16, UNPACKED_BF16))
        for name, directions in group.padding
        if name == unpacked
    )
    what = f"over {UNPACKED}, in the same precision, worst case ({where})"
    yield what, f"{LEAST_OVER_UNPACKED:g}x", f"{least:.2f}x", _met(least >= LEAST_OVER_UNPACKED)


def _over_correct_peers(group: Rounds) -> Iterator[tuple[float, str]]:
    for name, directions in group.padding:
        if name not in (OURS, OURS_BF16, *INCORRECT):
            ours = group.ours()[0]
            where = f"{_where(group, ours)}, {directions} directions, over {name}"
            yield group.ratio(ours, name, directions), where


def _where(group: Rounds, *ours: str) -> str:
    return ", ".join([f"{group.model} {group.size}/{group.size}", *ours])


def _met(met: bool) -> str:
    return "yes" if met else "NO"
