"""Exchange values between the processes of a run."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning as L


def gather(trainer: "L.Trainer", value: Any) -> list[Any]:
    """Return the `value` of each of the processes that train together, by rank."""
    from torch import distributed

    values = [value] * trainer.world_size
    if trainer.world_size > 1:
        distributed.all_gather_object(values, value)
    return values
