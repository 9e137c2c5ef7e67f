"""The table of ablations trains what train.py accepts."""

import pytest

from benchmarks.ablation import CHANGES
from tests.test_conf import composed


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_a_run_of_its_own(change):
    recipe, changed = (
        composed("experiment=imdb_fast", *overrides) for overrides in ((), CHANGES[change])
    )
    assert (recipe == changed) == (not CHANGES[change])
