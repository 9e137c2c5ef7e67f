"""Evaluate the rounds of throughput.py: the table, and the targets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.clock import median, median_ratio
from benchmarks.contenders import (
    KERAS,
    KERAS_FIXED,
    OURS,
    OURS_BF16,
    PACKED,
    PRODUCT,
    PRODUCT_BF16,
    UNPACKED,
)

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
HEADER = (
    *("model", "size", "directions", "contender"),
    *("reviews/s", "tokens/s", "padding", "of matmul rate", "vs packed"),
)
TARGET_HEADER = ("target", "at least", "fastest precision", "float32", "met")

# model, size, peer, the required ratio, and a further aim
RATIOS: list[tuple[str, int, str, float, str]] = [
    ("lstm", 128, PACKED, 35, ""),
    ("lstm", 256, PACKED, 50, ""),
    ("lstm", 128, KERAS, 3, ", aim 5x"),
    ("lstm", 128, KERAS_FIXED, 3, ", aim 5x"),
    ("gru", 128, PACKED, 8, ""),
    ("gru", 128, UNPACKED, 2, ""),
    ("gru", 128, KERAS, 3, ""),
    ("gru", 128, KERAS_FIXED, 3, ""),
]
WIDEST_BIDIRECTIONAL = 2.2  # the time of two directions over that of one
SHARES = {OURS: (0.85, "85 %"), OURS_BF16: (0.40, "40 %, aim 60 %")}


class Key(NamedTuple):
    """A contender and its number of directions; a matrix product has none."""

    contender: str
    directions: int = 0


@dataclass(frozen=True)
class Rounds:
    """The rounds of all contenders of one model and size."""

    model: str
    size: int
    tokens_per_review: float
    padding: dict[Key, float]  # share of the positions that a contender computes
    rounds: list[dict[Key, float]]  # reviews/s of contenders, FLOP/s of matrix products

    def rate(self, key: Key) -> float:
        """Return reviews/s, the median over rounds."""
        return median(self.rounds, key)

    def ratio(self, over: str, under: str, directions: int = 1) -> float:
        """Return the speed of `over` relative to `under`."""
        return median_ratio(self.rounds, Key(over, directions), Key(under, directions))

    def share(self, key: Key) -> float:
        """Return the layer's FLOP/s on real tokens, relative to those of a matrix product."""
        product = Key(PRODUCT_BF16 if key.contender == OURS_BF16 else PRODUCT)
        forward = 2 * GATES[self.model] * self.size * (self.size + self.size)  # per token
        flops = 3 * forward * key.directions * self.tokens_per_review  # per review, with backward
        return flops * median_ratio(self.rounds, key, product)

    def ours(self) -> list[str]:
        """Return the precisions that ours was measured in, fastest first."""
        measured = [name for name in (OURS, OURS_BF16) if Key(name, 1) in self.padding]
        return sorted(measured, key=lambda name: -self.rate(Key(name, 1)))


def table_rows(groups: list[Rounds]) -> Iterator[tuple[str, ...]]:
    """Yield the rows below HEADER."""
    for group in groups:
        for key, padding in group.padding.items():
            rate = group.rate(key)
            yield (
                group.model,
                f"{group.size}/{group.size}",
                str(key.directions),
                key.contender,
                f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}",
                f"{rate * group.tokens_per_review:,.0f}",
                f"{100 * padding:.1f} %",
                f"{100 * group.share(key):.1f} %",
                f"{group.ratio(key.contender, PACKED, key.directions):.1f}x",
            )


def target_rows(groups: list[Rounds]) -> list[tuple[str, ...]]:
    """Return the rows below TARGET_HEADER for the measured models and sizes."""
    measured = {(group.model, group.size): group for group in groups}
    return [*_ratio_targets(measured), *_share_targets(measured), *_worst_case_targets(groups)]


def _ratio_targets(measured: dict[tuple[str, int], Rounds]) -> Iterator[tuple[str, ...]]:
    for model, size, peer, least, aim in RATIOS:
        group = measured.get((model, size))
        if group and Key(peer, 1) in group.padding:
            best, plain = group.ratio(group.ours()[0], peer), group.ratio(OURS, peer)
            what = f"{model.upper()} {size}/{size} over {peer}"
            yield what, f"{least:g}x{aim}", f"{best:.1f}x", f"{plain:.1f}x", _met(best >= least)


def _share_targets(measured: dict[tuple[str, int], Rounds]) -> Iterator[tuple[str, ...]]:
    if group := measured.get(("lstm", 128)):
        for ours, (least, text) in SHARES.items():
            if ours in group.ours():
                share = group.share(Key(ours, 1))
                cells = ("-", f"{100 * share:.0f} %")
                what = f"LSTM 128/128, {ours}, of the matmul rate"
                best, plain = cells if ours == OURS else cells[::-1]
                yield what, text, best, plain, _met(share >= least)


def _worst_case_targets(groups: list[Rounds]) -> Iterator[tuple[str, ...]]:
    best = max(_both_over_one(group, group.ours()[0]) for group in groups)
    plain = max(_both_over_one(group, OURS) for group in groups)
    what, most = "time of both directions over one, worst case", WIDEST_BIDIRECTIONAL
    yield what, f"at most {most}x", f"{best:.2f}x", f"{plain:.2f}x", _met(best <= most)
    best = min(min(_over_peers(group, group.ours()[0])) for group in groups)
    plain = min(min(_over_peers(group, OURS)) for group in groups)
    what = "float32 over the fastest peer, worst case"
    yield what, "1x", f"{best:.2f}x", f"{plain:.2f}x", _met(plain > 1)


def _both_over_one(group: Rounds, ours: str) -> float:
    return median_ratio(group.rounds, Key(ours, 1), Key(ours, 2))


def _over_peers(group: Rounds, ours: str) -> Iterator[float]:
    """Yield the ratio to every peer but `UNPACKED`, which is torch's layer on our batches."""
    for key in group.padding:
        if key.contender not in (OURS, OURS_BF16, UNPACKED):
            yield group.ratio(ours, key.contender, key.directions)


def _met(met: bool) -> str:
    return "yes" if met else "NO"
