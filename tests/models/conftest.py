from collections.abc import Callable, Iterator

import pytest
import torch


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Set torch's number of threads for one test."""
    former = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(former)
