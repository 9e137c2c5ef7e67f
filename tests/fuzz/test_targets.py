"""The fuzz targets under Hypothesis, for as long as a test may take; FUZZ_EXAMPLES sets how long.

The target that needs a run is tried where there is one: tests/inference/test_predict.py.
"""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.seeds import SEEDS

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))


def nearly(name: str) -> st.SearchStrategy[bytes]:
    """Any bytes, and the seeds of a target with some bytes replaced."""

    @st.composite
    def damaged(draw: st.DrawFn) -> bytes:
        seed = draw(st.sampled_from(SEEDS[name]))
        for _ in range(draw(st.integers(1, 3))):
            start = draw(st.integers(0, len(seed)))
            end = draw(st.integers(start, min(start + 20, len(seed))))
            seed = seed[:start] + draw(st.binary(max_size=20)) + seed[end:]
        return seed

    return st.one_of(st.binary(max_size=200), damaged())


@pytest.mark.parametrize("name", ["read", "tokenize", "unpack"])
def test_any_bytes(name):
    target = getattr(targets, name)
    for seed in SEEDS[name]:
        target(seed)

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(nearly(name))
    def any_bytes(data: bytes) -> None:
        target(data)

    any_bytes()
