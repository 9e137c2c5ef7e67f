"""What train.py calls: the options are checked before anything slow is even imported."""

from typing import Any

from src.data.torchtext_words import TorchtextVocabulary, require_torchtext
from src.options import check_options
from src.training.config import RunConfig
from src.training.process import flush_denormals, keep_freed_memory


def train(options: dict[str, Any]) -> None:
    """Train, test and describe the run of conf/train.yaml, composed into `options`.

    Raises:
        UserError: whatever the user can mend; for an impossible option, before data is read.
    """
    config = check_options(RunConfig, options)
    keep_freed_memory()
    if config.data.tokenizer == TorchtextVocabulary.tokenizer:
        require_torchtext()
    flush_denormals()
    from src.training.run import run

    run(config, options)
