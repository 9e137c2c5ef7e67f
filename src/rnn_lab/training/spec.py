"""One run as a value: its options, its folder, its place in a sweep, and its signature."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rnn_lab.runs.run_folder import CHECKPOINT_DIR
from rnn_lab.training.config import RunConfig, TrainerConfig
from rnn_lab.training.rollback import Rollback
from rnn_lab.validation import FINGERPRINT_EXCLUDED, flatten

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from rnn_lab.data.datamodule import TextDataModule
    from rnn_lab.training.hardware import Hardware


@dataclass(frozen=True)
class SweepLabel:
    """The sweep that a run is part of, and what the sweep varies."""

    dir: Path
    run_name: str  # sets the run apart from the others: "lr=0.0031 hidden_size=64"
    parameters: Mapping[str, Any]  # the swept options and their values in this run


# Called in each process that trains, after torch has been imported; a function of a module, since
# it is sent to these processes.
CallbackFactory = Callable[["RunSpec"], "list[Callback]"]


def no_callbacks(spec: RunSpec) -> list[Callback]:
    """Return no callbacks."""
    return []


@dataclass(frozen=True)
class RunSpec:
    """All that is known of a run before it trains."""

    config: RunConfig
    output_dir: Path
    raw_overrides: Sequence[str] = ()  # in Hydra's grammar; references are not resolved
    hydra_arguments: Sequence[str] = ()  # --config-dir and the overrides of Hydra's own options
    sweep: SweepLabel | None = None
    shares_terminal: bool = False  # other runs print to it at the same time
    attempt: int = 1
    continues_attempt: bool = False  # the checkpoints in the folder are of an earlier attempt
    batch_halvings: int = 0
    rollbacks: tuple[Rollback, ...] = ()  # of this process so far
    fingerprint: str = ""  # of the config as it was composed
    make_callbacks: CallbackFactory = no_callbacks  # those that a caller adds

    def __post_init__(self) -> None:
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", config_fingerprint(self.config))

    @property
    def result_path(self) -> Path:
        """Where the metrics of the finished run are written."""
        return self.output_dir / "result.json"

    @property
    def checkpoint_dir(self) -> Path:
        """Where best.ckpt and last.ckpt are written."""
        return self.output_dir / CHECKPOINT_DIR

    @property
    def resume(self) -> Literal["auto", "never"]:
        """The option `resume`; a run resumes from a checkpoint of this command anyway."""
        return "auto" if self.rollbacks or self.continues_attempt else self.config.resume

    def resolved_options(self, hardware: Hardware, data: TextDataModule) -> dict[str, Any]:
        """Return the options, with what `auto` means on this machine and for these texts."""
        options = self.config.model_dump(mode="json")
        options["data"] = data.config.model_dump(mode="json")
        options["trainer"] |= asdict(hardware)
        return options

    def signature(self, hardware: Hardware, data: TextDataModule) -> dict[str, Any]:
        """Return all that decides the metrics of the run, flat: {"model.hidden_size": 128, ...}.

        Where the texts were found decides nothing; their fingerprint says whether they are the
        same.
        """
        options = self.resolved_options(hardware, data)
        fingerprints = {
            "data.fingerprint": data.corpus.fingerprint,
            "data.vocabulary_fingerprint": data.text_encoder.fingerprint,
        }
        if (unlabelled := data.unlabelled_fingerprint) is not None:
            fingerprints["data.unlabelled_fingerprint"] = unlabelled
        if data.pseudo_labelled is not None:
            fingerprints["data.pseudo_labels_fingerprint"] = data.pseudo_labelled.fingerprint
        return options_signature(options) | fingerprints

    def with_half_batch(self) -> RunSpec:
        """Return the run with half the batch size and twice the gradient accumulation.

        Validation batches are halved too. Where no batch can be smaller, the same run is returned.
        """
        data, trainer = self.config.data, self.config.trainer
        name, size, smallest = self._batch_option
        half, half_eval = max(smallest, size // 2), max(1, data.eval_batch_size // 2)
        shrinks = half < size
        if not shrinks and half_eval == data.eval_batch_size:
            return self
        batches = trainer.accumulate_grad_batches * (2 if shrinks else 1)
        sizes: dict[str, int] = {name: half, "eval_batch_size": half_eval}
        if shrinks and data.unlabelled_batch_size is not None:
            sizes["unlabelled_batch_size"] = max(1, data.unlabelled_batch_size // 2)
        numbers = ("limit_train_batches", "val_check_interval", "overfit_batches")
        twice = _doubled(trainer, numbers) if shrinks else {}
        if half_eval < data.eval_batch_size:
            twice |= _doubled(trainer, ("limit_val_batches", "limit_test_batches"))
        update = {
            "data": data.model_copy(update=sizes),
            "trainer": trainer.model_copy(update={"accumulate_grad_batches": batches} | twice),
        }
        config = self.config.model_copy(update=update)
        return replace(self, config=config, batch_halvings=self.batch_halvings + 1)

    def with_half_eval_batch(self) -> RunSpec:
        """Return the run that tests its complete training again, with half the batch size.

        Where no batch can be smaller, the same run is returned.
        """
        data = self.config.data
        if data.eval_batch_size == 1:
            return self
        halved = data.model_copy(update={"eval_batch_size": data.eval_batch_size // 2})
        twice = _doubled(self.config.trainer, ("limit_val_batches", "limit_test_batches"))
        trainer = self.config.trainer.model_copy(update=twice)
        config = self.config.model_copy(update={"data": halved, "trainer": trainer})
        return replace(self, config=config, continues_attempt=True)

    def describe_batch(self) -> str:
        """Return the options of a batch that `with_half_batch` changes, as on the command line."""
        name, size, smallest = self._batch_option
        accumulated = self.config.trainer.accumulate_grad_batches
        described = f"data.{name}={size} trainer.accumulate_grad_batches={accumulated}"
        if size > smallest:
            return described
        return f"{described} data.eval_batch_size={self.config.data.eval_batch_size}"

    @property
    def _batch_option(self) -> tuple[str, int, int]:
        """The option that limits a batch, its value, and its smallest possible value."""
        data = self.config.data
        if data.max_tokens_per_batch is None:
            return "batch_size", data.batch_size, 1
        return "max_tokens_per_batch", data.max_tokens_per_batch, data.max_length  # one text fits


def _doubled(trainer: TrainerConfig, names: Sequence[str]) -> dict[str, int]:
    """Return twice the options `names` that are numbers of batches; shares of them stay."""
    values = {name: getattr(trainer, name) for name in names}
    return {name: 2 * value for name, value in values.items() if isinstance(value, int)}


def options_signature(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that decide a run's metrics, flat, of a composed or checked config."""
    return {
        name: value
        for name, value in flatten(options).items()
        if name not in FINGERPRINT_EXCLUDED and name.split(".")[0] not in FINGERPRINT_EXCLUDED
    }


def config_fingerprint(config: RunConfig | Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of the options that decide a run's metrics.

    The fingerprint knows options, not files: the same file name with other texts has the same one.
    """
    options = config.model_dump(mode="json") if isinstance(config, RunConfig) else config
    text = json.dumps(options_signature(options), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
