import time

import pytest

from benchmarks.clock import interleave, median, median_ratio, seconds_per_pass


def test_the_time_of_a_pass_does_not_depend_on_the_number_of_passes() -> None:
    long = seconds_per_pass(lambda: time.sleep(0.05), at_least=0.0)
    short = seconds_per_pass(lambda: time.sleep(0.01), at_least=0.1)
    assert 0.05 <= long < 0.2
    assert 0.01 <= short < 0.05


def test_contenders_alternate_and_a_slow_one_stops_early() -> None:
    turns: list[str] = []

    def contender(name: str, seconds: float) -> float:
        turns.append(name)
        time.sleep(seconds)
        return seconds

    rounds = interleave(
        {
            "fast": lambda _: contender("fast", 0.001),
            "slow": lambda _: contender("slow", 0.2),
        },
        rounds=3,
        seconds=0.05,
    )

    assert turns == ["fast", "slow", "fast", "fast"]
    assert [set(row) for row in rounds] == [{"fast", "slow"}, {"fast"}, {"fast"}]


def test_the_first_round_decides_who_goes_on() -> None:
    contenders = {name: lambda _, name=name: float(len(name)) for name in ("a", "bb", "ccc")}
    rounds = interleave(contenders, rounds=3, seconds=1.0, choose=lambda first: [max(first)])
    assert rounds == [{"a": 1.0, "bb": 2.0, "ccc": 3.0}, {"ccc": 3.0}, {"ccc": 3.0}]


def test_ratios_compare_measurements_of_one_round() -> None:
    # The machine halves its speed in the second round, and the peer leaves after it.
    rounds = [{"ours": 100.0, "peer": 10.0}, {"ours": 50.0, "peer": 5.0}, {"ours": 90.0}]
    assert median(rounds, "ours") == 90
    assert median(rounds, "peer") == 7.5
    assert median_ratio(rounds, "ours", "peer") == pytest.approx(10)
