"""What the hand-written recurrent functions share: blocks of time steps, and sums over them."""

from torch import Tensor

# Elements of one block: 16 MiB in float32. Each block starts the threads anew and has products of
# its own, which costs more than that it outgrows a core's share of the cache.
_BLOCK_ELEMENTS = 2**22


def time_blocks(time: int, elements_a_step: int) -> list[tuple[int, int]]:
    """Cut `time` steps into (start, stop) pairs; every block but the last is equally long."""
    steps = min(time, max(1, _BLOCK_ELEMENTS // elements_a_step))
    return [(start, min(start + steps, time)) for start in range(0, time, steps)]


def add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total`, in place, whose type may be wider than theirs."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
