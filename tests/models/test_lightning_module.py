"""The LightningModules under real Trainers, on a task that only word order solves."""

import json
import math
from typing import NamedTuple

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader

import rnn_lab.models
from rnn_lab.errors import ConfigError
from rnn_lab.models.config import OptimizerConfig, SchedulerConfig, validate_model
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.models.optimizers import build_scheduler
from tests.cli.forked import run_warm_command

VOCAB_SIZE = 20
every_model = pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])


class Batch(NamedTuple):
    tokens: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


def which_comes_first(reviews: int, seed: int) -> list[tuple[torch.Tensor, int]]:
    """Reviews that all hold tokens 2 and 3 once; the label says whether 3 comes before 2."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(reviews):
        length = int(torch.randint(4, 13, (), generator=generator))
        tokens = torch.randint(4, VOCAB_SIZE, (length,), generator=generator)
        first, second = torch.randperm(length, generator=generator)[:2].sort().values.tolist()
        label = int(torch.randint(0, 2, (), generator=generator))
        tokens[first], tokens[second] = (3, 2) if label else (2, 3)
        found.append((tokens, label))
    return found


def batches(reviews: list[tuple[torch.Tensor, int]], batch_size: int) -> list[Batch]:
    found = []
    for start in range(0, len(reviews), batch_size):
        texts, labels = zip(*reviews[start : start + batch_size], strict=True)
        found.append(
            Batch(
                torch.nn.utils.rnn.pad_sequence(texts, batch_first=True),
                torch.tensor([len(text) for text in texts]),
                torch.tensor(labels),
                torch.arange(start, start + len(texts)),
            )
        )
    return found


def loader(found: list[Batch]) -> DataLoader:
    return DataLoader(found, batch_size=None)


def build(name: str = "gru", num_classes: int = 2, **groups) -> TextClassifier:
    small = {"embedding_dim": 16, "hidden_size": 24, "dropout": 0.1, "pooling": "last"}
    return TextClassifier(
        validate_model({"name": name} | small | groups.get("model", {})),
        VOCAB_SIZE,
        num_classes,
        {"lr": 1e-2} | groups.get("optimizer", {}),
        groups.get("scheduler", {}),
        class_weights=groups.get("class_weights"),
        task=groups.get("task", "multiclass"),
        calibrate=groups.get("calibrate", False),
        label_smoothing=groups.get("label_smoothing", 0.0),
    )


def trainer(**options) -> L.Trainer:
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**(quiet | options))


@pytest.fixture(scope="module")
def train_batches() -> list[Batch]:
    return batches(which_comes_first(1024, seed=0), 64)


@pytest.fixture(scope="module")
def held_out() -> list[Batch]:
    return batches(which_comes_first(300, seed=1), 128)  # the last batch is smaller


@every_model
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_learns_a_task_that_needs_word_order(name, precision, train_batches, held_out):
    L.seed_everything(1)
    model = build(name, optimizer={"lr": 2e-2})
    run = trainer(max_epochs=5, precision=precision, gradient_clip_val=1.0)
    run.fit(model, loader(train_batches))
    metrics = run.test(model, loader(held_out), verbose=False)[0]
    assert metrics["test/accuracy"] > 0.95
    assert metrics["test/auroc"] > 0.98
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_the_same_seed_gives_the_same_weights_bit_for_bit(train_batches, held_out):
    def train(seed: int) -> dict[str, torch.Tensor]:
        L.seed_everything(seed)
        model = build(model={"dropout": 0.5})
        run = trainer(max_epochs=2, gradient_clip_val=1.0, num_sanity_val_steps=0)
        run.fit(model, loader(train_batches[:8]), loader(held_out))
        return model.state_dict()

    first, again, other = train(3), train(3), train(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["classifier.embedding.weight"], other["classifier.embedding.weight"]
    )


@pytest.mark.parametrize("num_classes", [2, 3])
def test_metrics_are_means_over_texts(num_classes, held_out):
    # Weights that (nearly) do not move: training, validation and test see the same model.
    L.seed_everything(1)
    model = build(
        num_classes=num_classes,
        model={"dropout": 0.0, "word_dropout": 0.0},
        optimizer={"name": "sgd", "lr": 1e-12},
    )
    uneven = [Batch(*(part[:n] for part in b)) for b, n in zip(held_out, (128, 1, 9), strict=True)]
    run = trainer(max_epochs=1)
    run.fit(model, loader(uneven), loader(uneven))
    metrics = dict(run.callback_metrics)
    with torch.no_grad():
        outputs = [model.eval()(batch.tokens, batch.lengths) for batch in uneven]
    logits, labels = torch.cat(outputs), torch.cat([batch.labels for batch in uneven])
    loss = torch.nn.functional.cross_entropy(logits, labels)
    accuracy = (logits.argmax(1) == labels).float().mean()
    for split in ("train", "val"):
        assert metrics[f"{split}/loss"] == pytest.approx(float(loss), abs=1e-5)
        assert metrics[f"{split}/accuracy"] == pytest.approx(float(accuracy), abs=1e-6)
    names = ("accuracy", "f1", "auroc", "calibration_error", "loss")
    assert metrics.keys() == {"train/loss", "train/accuracy"} | {f"val/{name}" for name in names}
    tested = run.test(model, loader(uneven), verbose=False)[0]
    assert tested == pytest.approx({f"test/{n}": float(metrics[f"val/{n}"]) for n in names})


def test_logits_that_look_like_probabilities_are_not_taken_for_them(held_out):
    model = build()
    with torch.no_grad():
        model.classifier.linear.weight.zero_()
        model.classifier.linear.bias.copy_(torch.tensor([0.2, 0.9]))
    metrics = trainer().test(model, loader(held_out), verbose=False)[0]
    confidence = 1 / (1 + math.exp(0.2 - 0.9))
    error = abs(metrics["test/accuracy"] - confidence)
    assert metrics["test/calibration_error"] == pytest.approx(error, abs=1e-5)


class KeepTestOutputs(Callback):
    def __init__(self) -> None:
        self.outputs: list[dict[str, torch.Tensor]] = []

    def on_test_batch_end(self, trainer, pl_module, outputs, *_) -> None:
        self.outputs.append(outputs)


@every_model
def test_a_review_scores_the_same_whatever_the_precision_and_batch_size(name):
    reviews = which_comes_first(90, seed=2)
    L.seed_everything(1)
    model = build(name)
    found = []
    for precision, batch_size in (("32-true", 90), ("bf16-mixed", 1), ("bf16-mixed", 32)):
        keep = KeepTestOutputs()
        run = trainer(precision=precision, callbacks=[keep])
        run.test(model, loader(batches(reviews, batch_size)), verbose=False)
        found.append({key: torch.cat([o[key] for o in keep.outputs]) for key in keep.outputs[0]})
    reference = found[0]
    labels = torch.tensor([label for _, label in reviews])
    assert torch.equal(reference["labels"], labels)
    assert torch.equal(reference["indices"], torch.arange(90))
    of_truth = reference["probabilities"][torch.arange(90), labels]
    torch.testing.assert_close(reference["loss"], -of_truth.log(), rtol=0, atol=1e-5)
    for other in found[1:]:
        assert other["probabilities"].dtype == torch.float32
        torch.testing.assert_close(other, reference, rtol=0, atol=1e-5)


def test_predicts_what_it_was_tested_on(held_out):
    L.seed_everything(1)
    model = build()
    predicted = trainer().predict(model, loader(held_out))
    with torch.no_grad():
        for output, batch in zip(predicted, held_out, strict=True):
            expected = model.eval()(batch.tokens, batch.lengths).softmax(1)
            torch.testing.assert_close(output["probabilities"], expected)
            assert torch.equal(output["indices"], batch.indices)


@every_model
def test_a_checkpoint_holds_data_only_and_gives_the_model_back(
    name, tmp_path, train_batches, held_out
):
    L.seed_everything(1)
    model = build(name, model={"num_layers": 2, "bidirectional": True, "pooling": "max"})
    run = trainer(
        max_epochs=1,
        default_root_dir=tmp_path,
        enable_checkpointing=True,
        callbacks=[ModelCheckpoint(tmp_path, filename="last")],
    )
    run.fit(model, loader(train_batches[:4]))
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"] == {
        "model": {
            "name": name,
            "embedding_dim": 16,
            "hidden_size": 24,
            "num_layers": 2,
            "bidirectional": True,
            "dropout": 0.1,
            "variational_dropout": False,
            "word_dropout": 0.1,
            "pooling": "max",
            "ngrams": 0,
            "ngram_buckets": 2**17,
            "ngram_weighting": "tfidf",
            "init_from": None,
        }
        | {"lstm": {"forget_bias": None}, "gru": {"reset_after": True}}.get(name, {}),
        "vocab_size": VOCAB_SIZE,
        "num_classes": 2,
        "task": "multiclass",
        "optimizer": OptimizerConfig(lr=1e-2).model_dump(),
        "loss": {
            **{"adversarial": 0.0, "virtual_adversarial": 0.0, "entropy": 0.0, "r_drop": 0.0},
            "epsilon": 5.0,
        },
        "scheduler": SchedulerConfig().model_dump(),
    }
    again = TextClassifier(**checkpoint["hyper_parameters"])
    again.load_state_dict(checkpoint["state_dict"])
    through_lightning = type(model).load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    batch = held_out[0]
    logits = model.eval()(batch.tokens, batch.lengths)
    assert torch.equal(again.eval()(batch.tokens, batch.lengths), logits)
    assert torch.equal(through_lightning.eval()(batch.tokens, batch.lengths), logits)


class KeepLearningRates(Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": 2}, 16),
        ({"max_epochs": 3, "limit_train_batches": 5, "accumulate_grad_batches": 2}, 9),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 8),
        ({"max_epochs": -1, "max_steps": 7}, 7),
        ({"max_epochs": 5, "max_steps": 7}, 7),
    ],
)
def test_the_schedule_spans_the_run(options, steps, train_batches):
    keep = KeepLearningRates()
    trainer(callbacks=[keep], **options).fit(build(), loader(train_batches[:8]))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-2)
    scheduler = build_scheduler(SchedulerConfig(), optimizer, steps)
    expected = []
    for _ in range(steps):
        expected += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert keep.rates == pytest.approx(expected)


class KeepGradientNorms(Callback):
    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step > len(self.norms):
            self.norms.append(float(pl_module.gradient_norm))


@pytest.mark.parametrize(("batches", "accumulated"), [(3, 2), (5, 4), (2, 4), (4, 2)])
def test_a_step_has_the_mean_gradient_of_its_batches(batches, accumulated, train_batches):
    def module() -> TextClassifier:
        torch.manual_seed(0)
        return build(
            model={"dropout": 0.0, "word_dropout": 0.0},
            optimizer={"lr": 1e-9},
            scheduler={"name": "constant", "warmup_ratio": 0.0},
        )

    keep, found = KeepGradientNorms(), train_batches[:batches]
    options = {"max_epochs": 1, "accumulate_grad_batches": accumulated, "precision": "64-true"}
    trainer(callbacks=[keep], **options).fit(module(), loader(found))
    expected = []
    for start in range(0, batches, accumulated):
        one, of_step = module().double().train(), found[start : start + accumulated]
        losses = [
            torch.nn.functional.cross_entropy(one(b.tokens, b.lengths), b.labels) for b in of_step
        ]
        torch.stack(losses).mean().backward()
        gradients = [p.grad for p in one.parameters() if p.grad is not None]
        expected.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
    assert keep.norms == pytest.approx(expected, rel=1e-5)


def test_a_run_without_end_needs_a_constant_learning_rate(train_batches):
    with pytest.raises(ConfigError, match="max_epochs=-1"):
        trainer(max_epochs=-1).fit(build(), loader(train_batches[:2]))

    class StopAfterThree(Callback):
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            trainer.should_stop = trainer.current_epoch == 2

    constant = {"name": "constant", "warmup_ratio": 0.0}
    keep = KeepLearningRates()
    run = trainer(max_epochs=-1, callbacks=[StopAfterThree(), keep])
    run.fit(build(scheduler=constant), loader(train_batches[:2]))
    assert keep.rates == [1e-2] * 6


class StatefulLoader:
    """Batches, from wherever a restored state says."""

    def __init__(self, found: list[Batch]) -> None:
        self.found = found
        self.given = 0
        self.seen: list[int] = []

    def __iter__(self):
        for index in range(self.given, len(self.found)):
            self.given = index + 1
            self.seen.append(index)
            yield self.found[index]
        self.given = 0

    def __len__(self) -> int:
        return len(self.found)

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.given = state["given"]


def test_a_resumed_run_gives_its_loader_its_state_and_its_schedule_its_place(
    tmp_path, train_batches
):
    keep = KeepLearningRates()
    whole = trainer(
        max_epochs=1,
        enable_checkpointing=True,
        callbacks=[
            keep,
            ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1),
        ],
    )
    L.seed_everything(1)
    first = build(model={"dropout": 0.0, "word_dropout": 0.0})
    whole.fit(first, StatefulLoader(train_batches[:8]))
    rest, rates = StatefulLoader(train_batches[:8]), KeepLearningRates()
    resumed = build(model={"dropout": 0.0, "word_dropout": 0.0})
    trainer(max_epochs=1, callbacks=[rates]).fit(
        resumed, rest, ckpt_path=tmp_path / "step=3.ckpt", weights_only=True
    )
    assert rates.rates == keep.rates[3:]
    assert rest.seen == [3, 4, 5, 6, 7]
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, first.state_dict()[name]), name


@every_model
def test_the_name_of_a_cell_is_enough(name, train_batches):
    model = rnn_lab.models.TextClassifier({"name": name}, VOCAB_SIZE, num_classes=2)
    assert model.hparams["model"] == validate_model({"name": name}).model_dump()
    assert model.classifier.recurrent.cell.name == name
    trainer(fast_dev_run=1).fit(model, loader(train_batches))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"model": {"name": "grru"}}, "grru"),
        ({"model": {"hidden_size": -1}}, "hidden_size=-1"),
        ({"optimizer": {"lr": 0}}, "lr=0"),
        ({"scheduler": {"warm_up": 0.1}}, "warm_up"),
        ({"model": {"pooling": "auto"}}, r"^model.pooling=auto: only `rnn-lab train` chooses"),
        ({"model": {"bidirectional": "auto"}}, "^model.bidirectional=auto: only `rnn-lab train`"),
        ({"task": "multi"}, "^task=multi: impossible value. .* Choose from: multiclass, multil"),
        ({"class_weights": [1, 2, 3]}, "^class_weights: 3 numbers for num_classes=2; give one"),
        (
            {"class_weights": [1, 2], "task": "multilabel"},
            "^class_weights: only where each text has one label; give None",
        ),
    ],
)
def test_impossible_options_are_one_clear_line(groups, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build(**groups)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_two_processes_log_the_metrics_of_one(tmp_path):
    done = run_warm_command("tests/models/two_processes.py", cwd=tmp_path, warm_children=True)
    assert done.returncode == 0, done.stderr
    one, two = map(json.loads, done.stdout.splitlines()[-2:])
    assert not math.isnan(one["val/auroc"])
    assert two == pytest.approx(one, abs=1e-5)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # there is no Trainer
def test_class_weights_weight_the_training_loss_alone(held_out):
    L.seed_everything(0)
    weights = torch.tensor([0.5, 4.0])
    module = build(model={"dropout": 0.0, "word_dropout": 0.0}, class_weights=weights.tolist())
    for batch in held_out:
        losses = torch.nn.functional.cross_entropy(
            module(batch.tokens, batch.lengths), batch.labels, reduction="none"
        )
        expected = (losses * weights[batch.labels]).mean()
        assert torch.allclose(module.training_step(batch, 0), expected)
    plain = build()
    plain.load_state_dict(module.state_dict())  # which has no weights of classes
    tested = [trainer().test(one, loader(held_out), verbose=False) for one in (module, plain)]
    assert tested[0] == tested[1]


def test_class_weights_in_double_precision(held_out):
    run = trainer(fast_dev_run=1, precision="64-true")
    run.fit(build(class_weights=[0.5, 4.0]), loader(held_out))


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # there is no Trainer
@pytest.mark.parametrize("weights", [None, [0.5, 4.0, 1.0]])
def test_label_smoothing_spreads_a_share_of_each_label(held_out, weights):
    """Szegedy et al. 2016, equation for q': the loss of training alone."""
    L.seed_everything(0)
    smoothed = {"label_smoothing": 0.3, "class_weights": weights}
    module = build(num_classes=3, model={"dropout": 0.0, "word_dropout": 0.0}, **smoothed)
    for batch in held_out:
        targets = 0.7 * torch.nn.functional.one_hot(batch.labels, 3).double() + 0.3 / 3
        log_p = module(batch.tokens, batch.lengths).detach().double().log_softmax(dim=1)
        expected = -(targets * log_p * torch.tensor(weights or 1.0)).sum(dim=1).mean()
        loss = module.training_step(batch, 0).double()
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    plain = build(num_classes=3)
    plain.load_state_dict(module.state_dict())
    module.class_weights = None
    tested = [trainer().test(one, loader(held_out), verbose=False) for one in (module, plain)]
    assert tested[0] == tested[1]


def test_label_smoothing_of_any_number_of_labels_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"^trainer.label_smoothing=0.1: only where [^\n]*$"):
        build(task="multilabel", label_smoothing=0.1)


def test_a_validated_multilabel_model_loads_other_weights(held_out):
    model = build(task="multilabel")
    weights = model.state_dict()
    marked = [
        Batch(one.tokens, one.lengths, torch.eye(2, dtype=torch.uint8)[one.labels], one.indices)
        for one in held_out
    ]
    trainer().validate(model, loader(marked), verbose=False)
    assert model.classifier.thresholds is not None
    assert not model.classifier.thresholds.is_inference()
    model.load_state_dict(weights)
