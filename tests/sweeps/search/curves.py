"""Learning curves of runs that were not pruned, in curves.json.

They are recorded once, by training on demo reviews for a minute:

    python -m tests.sweeps.search.curves > tests/sweeps/search/curves.json
"""

import json
import tempfile
from pathlib import Path

import hydra
import lightning as L
import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.sweeps.search.config import SamplerOptions
from rnn_lab.sweeps.search.space import parse_space
from rnn_lab.sweeps.search.study import build_sampler
from rnn_lab.training.callbacks import build_callbacks
from rnn_lab.training.callbacks.monitors import ValidationHistory
from rnn_lab.training.config import RunConfig
from rnn_lab.training.hardware import resolve_hardware
from rnn_lab.training.recipe import resolve_recipe
from rnn_lab.training.spec import RunSpec
from rnn_lab.training.trainer import build_trainer, find_callback
from rnn_lab.validation import validate
from tests.cli.runner import PROJECT

CURVES = Path(__file__).with_name("curves.json")
TRIALS, EPOCHS = 30, 7
RUN = (
    *("experiment=smoke", "model=lstm", "trainer=cpu", "trainer.precision=32-true"),
    *("data.batch_size=32", "data.max_vocab_size=300", "scheduler=constant"),
    *("model.dropout=0", "model.word_dropout=0", "trainer.monitor=val/loss"),
    *("trainer.log_every_n_steps=50", "trainer.enable_progress_bar=false"),
)
SPACE = ("optimizer.lr=tag(log,interval(0.0003,0.3))", "model.pooling=choice(mean,max)")


def val_losses(*overrides: str, folder: Path) -> list[float]:
    """Return the validation loss of each epoch of the run with those options, without pruning."""
    with hydra.initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose("train", [*RUN, *overrides]), resolve=True)
    config = validate(RunConfig, config)
    data = TextDataModule(config.data, seed=config.seed, allow_fallback=False)
    data.prepare_data()
    data.setup()
    spec = RunSpec(resolve_recipe(config, data), folder)
    config = spec.config
    L.seed_everything(config.seed, workers=True, verbose=False)
    model = TextClassifier(
        config.model, data.vocab_size, data.num_classes, config.optimizer, config.scheduler
    )
    hardware = resolve_hardware(config.trainer)
    trainer = build_trainer(config.trainer, hardware, folder, [], build_callbacks(spec))
    trainer.fit(model, datamodule=data)
    history = find_callback(trainer, ValidationHistory).by_step
    return [metrics["val/loss"] for _, metrics in sorted(history.items())]


def main() -> None:
    """Train the runs of a random search and print their curves."""
    space = parse_space(SPACE, OverridesParser.create())
    study, curves = optuna.create_study(), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(TRIALS):
            study.sampler = build_sampler(SamplerOptions(name="random"), number)
            trial = study.ask()
            options = [d.override(d.suggest(trial)) for d in space.dimensions]
            size = ("data.num_train=800", f"trainer.max_epochs={EPOCHS}")
            path = Path(folder) / str(number)
            path.mkdir()
            losses = val_losses(*size, *options, folder=path)
            curves.append({"overrides": options, "val/loss": [round(loss, 4) for loss in losses]})
    print("[\n" + ",\n".join(map(json.dumps, curves)) + "\n]")


if __name__ == "__main__":
    main()
