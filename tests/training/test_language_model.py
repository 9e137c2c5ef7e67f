"""A run that trains a language model, and a classifier that starts from it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.inference.load import load_model
from rnn_lab.models.language_module import LanguageModel
from rnn_lab.training.reproduce import read_run_record
from rnn_lab.training.saved_network import read_network
from tests.cli.forked import run_warm_command
from tests.test_conf import composed
from tests.training.test_kill_and_resume import SMALL, aim, kill

NAMES = ("loss", "perplexity")
LM = ("objective=language_model", "model.bidirectional=true", "objective.num_sampled=100")


def train(cwd: Path, name: str, *arguments: str) -> str:
    return start(cwd, *SMALL, *arguments, "plots=false", f"hydra.run.dir={name}")


def start(cwd: Path, *arguments: str) -> str:
    done = run_warm_command("train.py", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a language model of demo reviews."""
    cwd = tmp_path_factory.mktemp("language_model")
    printed = train(cwd, "lm", *LM, "trainer.max_epochs=3", "optimizer.lr=0.1")
    assert "Language model of 180 training texts" in printed
    assert "perplexity" in printed and "accuracy" not in printed
    return cwd / "lm"


def result_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_perplexity_falls_and_selects_the_epoch(run):
    result = result_of(run)
    metrics = {name for name in result if name.startswith(("val/", "test/"))}
    assert metrics == {f"{split}/{name}" for split in ("val", "test") for name in NAMES}
    for split in ("val", "test"):
        loss = torch.tensor(result[f"{split}/loss"], dtype=torch.float64)
        assert result[f"{split}/perplexity"] == pytest.approx(float(loss.exp()), rel=1e-5)
    # A uniform distribution over the vocabulary has its size as perplexity.
    assert result["val/perplexity"] < result["data"]["vocab_size"] / 1.5
    assert (result["monitored_metric"], result["monitored_mode"]) == ("val/loss", "min")
    assert result["objective"]["name"] == "language_model"
    assert result["data"]["pretraining_texts"] == {"training": 180}
    assert not (run / "predictions.csv").exists()


def test_the_loss_of_validation_is_that_of_all_words(run):
    """Compute it again with torch's cross-entropy, from the weights of best.ckpt."""
    saved = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["objective"] == "language_model"
    config = read_run_record(str(run)).config
    assert config.is_language_model and config.objective.num_sampled == 100
    data = TextDataModule(
        config.data.model_copy(update={"cache_dir": str(run.parent / "data/cache")}),
        seed=config.seed,
        use_labels=False,
    )
    data.setup()
    module = LanguageModel(config.model, data.vocab_size, {}, {})
    module.load_state_dict(saved["state_dict"])
    network = module.network.double().eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in data.val_dataloader():
            vectors = network.embedding(batch.tokens)
            outputs = network.recurrent(vectors, batch.lengths)[0]
            sides = outputs.chunk(2, dim=2)
            for side, projection, shift in zip(sides, network.projections, (1, -1), strict=True):
                logits = projection(side) @ network.embedding.weight.T + network.output_bias
                logits[..., 0] = -torch.inf
                targets = batch.tokens.roll(-shift, dims=1)
                steps = torch.arange(targets.shape[1])
                last = batch.lengths[:, None] - 1
                real = (steps < last) if shift == 1 else (steps > 0) & (steps <= last)
                losses = torch.nn.functional.cross_entropy(logits[real], targets[real])
                total, count = total + float(losses) * int(real.sum()), count + int(real.sum())
    assert result_of(run)["val/loss"] == pytest.approx(total / count, rel=1e-5)


def test_a_classifier_starts_from_both_directions(run):
    options = ("model.bidirectional=true", f"model.init_from={run}", "optimizer.lr=1e-9")
    printed = train(run.parent, "child", *options)
    assert "with its 362 tokens\n" in printed
    assert "init_from was trained" not in printed  # the same splits
    theirs = read_network(run).network.state_dict()
    child = load_model(run.parent / "child").model.state_dict()
    copied = [n for n in child if n == "embedding.weight" or n.startswith("recurrent.")]
    assert sum(name.endswith("_reverse") for name in copied) == 4
    for name in copied:
        torch.testing.assert_close(child[name], theirs[name], rtol=0, atol=1e-5)
    assert result_of(run.parent / "child")["init_from"]["coverage"] == {"vocabulary": 1.0}


def test_validation_texts_of_the_language_model_are_reported(run):
    options = ("model.bidirectional=true", f"model.init_from={run}", "data.split_seed=5")
    printed = train(run.parent, "other", *options, "trainer.fast_dev_run=true")
    assert re.search(r"init_from was trained, without labels, on \d+ of the \d+ valid", printed)


def test_pretrained_layers_learn_after_the_first_epochs(run):
    options = (f"model.init_from={run}", "model.bidirectional=true", "plots=false")
    options += ("trainer.freeze_pretrained_epochs=1", "optimizer.lr=0.05")
    for epochs in (1, 2):
        train(run.parent, f"frozen{epochs}", *options, f"trainer.max_epochs={epochs}")
    theirs = read_network(run).network.state_dict()
    last = [
        torch.load(run.parent / f"frozen{n}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for n in (1, 2)
    ]
    for name in (n for n in theirs if n.startswith(("embedding.", "recurrent."))):
        frozen, moved = (state[f"classifier.{name}"] for state in last)
        assert torch.equal(frozen, theirs[name]), name
        assert not torch.allclose(moved, theirs[name], atol=1e-3), name
    assert result_of(run.parent / "frozen1")["trainer"]["freeze_pretrained_epochs"] == 1


def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    found = kill(
        tmp_path,
        *LM,
        *("trainer.max_epochs=2", "trainer.checkpoint_every_n_steps=2", "plots=false"),
        runs={"killed": [aim("torch.Tensor.backward", 6)]},
    )["runs"]
    assert found == {"killed": {"statuses": [-9, 0], "differences": []}}


def test_a_killed_fine_tuning_ends_with_the_same_bits(run):
    found = kill(
        run.parent,
        *(f"model.init_from={run}", "model.bidirectional=true", "optimizer.layer_lr_decay=0.4"),
        *("trainer.freeze_pretrained_epochs=1", "trainer.max_epochs=2", "plots=false"),
        "trainer.checkpoint_every_n_steps=2",
        runs={"killed": [aim("torch.Tensor.backward", 4), aim("torch.Tensor.backward", 7)]},
    )["runs"]
    assert found == {"killed": {"statuses": [-9, -9, 0], "differences": []}}


def test_a_language_model_is_reproduced_from_its_result(run):
    options = ("logger=none", "plots=false", "hydra.run.dir=again")
    printed = start(run.parent, f"reproduce={run}/result.json", *options)
    assert "metrics are bit-identical" in printed


def test_a_language_model_predicts_no_labels(run):
    with pytest.raises(CheckpointError, match=r"of a language model, .* model\.init_from="):
        load_model(run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("data.unlabelled=more.txt",),
            "needs data.vectors=skipgram, data.teacher=<run>, objective=language_model, or",
        ),
        (("trainer.freeze_pretrained_epochs=1",), "needs model.init_from or data.vectors"),
        ((LM[0], "trainer.gradient_flow=epoch"), "is for classifiers, not for objective=language"),
        (("objective=classification", "+objective.num_sampled=9"), "objective.num_sampled"),
        ((LM[0], "objective.eval_stride=0"), "objective.eval_stride"),
        ((LM[0], "trainer.label_smoothing=0.1"), "trainer.label_smoothing: is for classifiers"),
        ((LM[0], "baseline=tfidf"), "baseline: is for classifiers"),
        ((LM[0], "loss=mixed"), "loss: is for classifiers, not for objective=language_model"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ConfigError) as error:
        composed("data=demo", *options)
    (line,) = str(error.value).splitlines()
    assert message in line
