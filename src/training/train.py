"""What a run needs before torch is imported, and the run."""

from typing import Any

from src.data.torchtext_words import TorchtextVocabulary, require_torchtext
from src.training.config import RunConfig
from src.training.process import flush_denormals, keep_freed_memory
from src.training.replicas import is_replica, train_in_replicas


def train(
    config: RunConfig, options: dict[str, Any], *, marks: dict[str, Any] | None = None
) -> None:
    """Train, test and describe the run of `config`, which was composed into `options`.

    Data parallel, it is the processes started for it that do so. `marks` are written into its
    result.json too.

    Raises:
        UserError: whatever the user can mend; for an impossible option, before data is read.
    """
    if config.trainer.strategy == "ddp" and not is_replica():
        return train_in_replicas(config, options, marks or {})
    keep_freed_memory()
    if config.data.tokenizer == TorchtextVocabulary.tokenizer:
        require_torchtext()
    flush_denormals()
    from src.training.run import run

    run(config, options, marks=marks)
