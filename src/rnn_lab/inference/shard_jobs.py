"""A sweep of predict over its shards: `-m shard=0/4,1/4,2/4,3/4` with any launcher of Hydra."""

import sys
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rnn_lab.errors import ConfigError, exiting_in_callback
from rnn_lab.overrides import own_options


class ShardJobs(Callback):
    """Checks the sweep before its jobs start, and lists the files without an output at its end."""

    @exiting_in_callback()
    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Exit with one line where the shards cannot be labelled."""
        self._shards = _shards(config)
        self._options = own_options(config)
        _missing(self._options, self._shards)

    @exiting_in_callback()
    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Exit with status 1 if a file of the shards has no finished output."""
        from rnn_lab.inference.predict_files import raise_failures

        failures, total = _missing(self._options, self._shards)
        print(f"{total - len(failures):,} of {total:,} files are labelled", file=sys.stderr)
        raise_failures(failures, total)


def _shards(config: DictConfig) -> list[str]:
    """Return the shards of the sweep. Raises a ConfigError if it is one over anything else."""
    found: list[str] = []
    for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
        if override.key_or_group == "shard":
            is_sweep = override.is_sweep_override()
            values = override.sweep_string_iterator() if is_sweep else [override.value()]
            found = [str(value).strip("'\"") for value in values]
        elif override.is_sweep_override():
            raise ConfigError(
                f"{override.input_line}: predict has one value of each option but shard; to label "
                "with several runs, use several commands"
            )
    if not found:
        raise ConfigError("shard: give the shards of the sweep: -m shard=0/2,1/2")
    return found


def _missing(options: dict[str, Any], shards: list[str]) -> tuple[list[Any], int]:
    """Return the parts of the shards without an output, each with the reason, and all their number.

    Raises:
        UserError: the options, the run or the input cannot be used.
    """
    from rnn_lab.inference.config import PredictOptions
    from rnn_lab.inference.predict_files import Labeller
    from rnn_lab.inference.predict_plan import Plan
    from rnn_lab.inference.run_loader import LazyRun
    from rnn_lab.inference.shards import Shard
    from rnn_lab.validation import validate

    checked = [validate(PredictOptions, options | {"shard": shard}) for shard in shards]
    chosen = [Shard.parse(shard) for shard in shards]
    plans = {shard.count: Plan.of(checked[0], shard.count) for shard in chosen}
    parts = [part for shard in chosen for part in plans[shard.count].parts_of(shard)]
    fingerprint = Labeller(LazyRun(checked[0])).fingerprint
    failures = []
    for part in parts:
        if not part.is_done(fingerprint):
            reason = part.read_record().get("error", "its shard did not label it")
            failures.append((part, str(reason)))
    return failures, len(parts)
