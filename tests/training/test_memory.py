import resource
import sys

import pytest
import torch

from src.training.memory import keep_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and glibc")
def test_freed_memory_is_kept():
    def page_faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            torch.ones(4_000_000)  # 16 MB: above any threshold that glibc sets by itself
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    page_faults()
    # Each block is 3,900 pages of 4 kB; twenty fresh ones would fault on all of them.
    assert page_faults() < 4_000
