"""Which of several processes that train together this one is, from the environment alone.

The same variables as Lightning's rank_zero_only, without the seconds that importing it takes.
"""

import os

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK")


def is_rank_zero() -> bool:
    """Return whether this is the first, or the only, process of a run."""
    ranks = (os.environ.get(name) for name in _RANK_VARIABLES)
    return next((int(rank) for rank in ranks if rank is not None), 0) == 0


def is_worker() -> bool:
    """Return whether this is one of several processes that train together.

    They were started by this project (training.distributed), by torchrun or by srun.
    """
    return "LOCAL_RANK" in os.environ or started_by_srun()


def started_by_srun() -> bool:
    """Return whether srun started several tasks, of which this is one."""
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1
