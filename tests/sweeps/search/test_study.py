"""The parts of a search, on real studies of Optuna and with a real Trainer."""

import json
import threading
import time

import hydra
import lightning as L
import optuna
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import OmegaConf
from optuna.trial import TrialState

from rnn_lab.errors import ConfigError
from rnn_lab.sweeps.search.config import (
    PrunerOptions,
    SamplerOptions,
    SearchOptions,
    search_options,
)
from rnn_lab.sweeps.search.optuna_search import (
    check_metrics,
    default_directions,
    print_trial,
    trial_outcome,
)
from rnn_lab.sweeps.search.pruning import Pruning
from rnn_lab.sweeps.search.space import parse_space
from rnn_lab.sweeps.search.study import build_pruner, build_sampler, open_storage, open_study
from rnn_lab.sweeps.search.workers import SEEN, Worker
from rnn_lab.training.callbacks.best_checkpoint import BestCheckpoint
from rnn_lab.training.callbacks.monitors import ValidationHistory
from rnn_lab.training.config import TrialConfig
from rnn_lab.training.job_dir import JobDir
from rnn_lab.training.trainer import skips_test
from tests.test_conf import CONF

LOSS = {"val/loss": "minimize"}
RANDOM = SamplerOptions(name="random")


def space_of(*lines: str):
    return parse_space(lines, OverridesParser.create())


def study_of(path, space="x=interval(0,1)", directions=LOSS, options=None, **pruner):
    return open_study(
        "s",
        open_storage(str(path)),
        directions=directions,
        pruner=PrunerOptions(**{"name": "none"} | pruner),
        max_epochs=9,
        space=space_of(space),
        options=options or {},
    )


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("a=choice(64,128)", ["64", "128"]),
        ("a=lstm,gru", ["lstm", "gru"]),
        ("a='x, y',null,[1,2]", ["'x, y'", "null", "[1,2]"]),
        ("a=1,true", ["1", "True"]),
        ("a=range(1,10,4)", ["1", "5", "9"]),  # Hydra's range excludes its end
        ("a=range(6,3,-1)", ["4", "5", "6"]),
        ("a=range(0.1,0.5,0.1)", ["0.1", "0.2", "0.3", "0.4"]),
        ("a=int(interval(1,3))", ["1", "2", "3"]),
        ("+a=tag(log,range(1,4))", ["1", "2", "3"]),
    ],
)
def test_space_in_hydras_syntax_has_hydras_values(line, values):
    (dimension,) = space_of(line).dimensions
    assert dimension.name == "a"
    key = line.partition("=")[0]
    assert [dimension.override(v) for v in dimension.points()] == [f"{key}={v}" for v in values]
    reached = set()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        reached.add(dimension.override(dimension.suggest(study.ask())))
    assert reached == {f"{key}={v}" for v in values}


def test_interval_is_sampled_uniformly_or_by_logarithm():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    (flat,) = space_of("a=interval(0.001,1)").dimensions
    (log,) = space_of("b=tag(log,interval(0.001,1))").dimensions
    trials = [study.ask() for _ in range(200)]
    medians = [sorted(d.suggest(t) for t in trials)[100] for d in (flat, log)]
    assert medians == [pytest.approx(0.5, abs=0.1), pytest.approx(0.03, abs=0.015)]
    assert flat.override(1 / 3) == "a=0.333333"


def test_last_override_of_an_option_counts():
    space = space_of("a=choice(1,2)", "b=1,2", "c=7", "a=3", "c=interval(0,1)")
    assert space.fixed == ["a=3"]
    assert [dimension.name for dimension in space.dimensions] == ["b", "c"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a=3", "nothing to search"),
        ("a=tag(lgo,interval(1,2))", "no such tag: lgo. Did you mean log?"),
        ("a=tag(log,interval(0,1))", "tag(log) needs an interval above 0"),
        ("a=tag(log,choice(1,2))", "tag(log) is for range and interval"),
        ("a=range(5,1)", "the range is empty"),
        ("a=interval(2,1)", "the interval is empty: 2.0 is above 1.0"),
    ],
)
def test_impossible_space_is_refused_in_one_line(line, said):
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as error:
        space_of(line)
    assert said in str(error.value) and (line in str(error.value) or "nothing" in said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_trials": 0}, "hydra.sweeper.n_trials=0: "),
        ({"sampler": {"name": "tpee"}}, "Choose from: tpe, gp, random, grid"),
        ({"directions": {"test/accuracy": "maximize"}}, "the test split selects nothing"),
        ({"directions": {"val/f1": "up"}}, "Choose from: maximize, minimize"),
        ({"directions": {"val/f1": "maximize", "epochs": "minimize"}}, "pruner.name=none"),
    ],
)
def test_impossible_option_of_the_sweeper_is_refused_in_one_line(options, said):
    with pytest.raises(ConfigError, match=r"^hydra\.sweeper\.[^\n]*$") as error:
        search_options(OmegaConf.create(options))
    assert said in str(error.value)


@pytest.mark.parametrize(("name", "seeds", "trials"), [("tpe", range(8), 32), ("gp", [0], 20)])
def test_samplers_beat_random_search(name, seeds, trials):
    def later_trials(options):
        study = optuna.create_study()
        (x,), (y,) = space_of("x=interval(0,1)").dimensions, space_of("y=interval(0,1)").dimensions
        for number in range(trials):
            study.sampler = build_sampler(options, number)
            trial = study.ask()
            study.tell(trial, (x.suggest(trial) - 0.3) ** 2 + (y.suggest(trial) - 0.6) ** 2)
        return [trial.value for trial in study.trials[12:]]

    learnt = [
        value
        for seed in seeds
        for value in later_trials(SamplerOptions(name=name, seed=seed, n_startup_trials=8))
    ]
    # Expected for random x and y: the variance of a uniform number, 1/12, and the square of the
    # distance of its mean, 1/2, from the best.
    by_chance = 1 / 12 + 0.2**2 + 1 / 12 + 0.1**2
    assert sum(learnt) / len(learnt) < 0.6 * by_chance


def worker_of(study, folder, n_trials):
    options = SearchOptions(n_trials=n_trials, worker_timeout=30, sampler=RANDOM)
    return Worker(study, space_of("x=interval(0,1)"), options, folder)


def claim(worker, count):
    """Claim trials and return their numbers and values."""
    return [(trial.number, trial.params) for trial in worker.claim(count)]


def test_workers_claim_no_trial_twice_but_those_of_dead_workers(tmp_path):
    path = tmp_path / "study.journal"
    one, two = (worker_of(study_of(path), tmp_path, n_trials=5) for _ in range(2))
    with two:
        with one:
            first, second = claim(one, 2), claim(two, 2)
            assert [number for number, _ in first + second] == [0, 1, 2, 3]
            assert len({values["x"] for _, values in first + second}) == 4
            assert [number for number, _ in claim(two, 3)] == [4]
            assert claim(two, 1) == []
        assert claim(two, 9) == first  # `one` is gone: the same trials, same values
        assert len(two.study.trials) == 5


def test_worker_of_another_machine_is_dead_without_a_heartbeat(tmp_path):
    path = tmp_path / "study.journal"
    here = worker_of(study_of(path), tmp_path, n_trials=1)
    there = worker_of(study_of(path), tmp_path / "elsewhere", n_trials=1)
    there.host = "another"
    with here, there:
        there.study.set_user_attr(SEEN + there.name, {"host": "another", "at": time.time() - 29})
        claimed = claim(there, 1)
        assert len(claimed) == 1 and claim(here, 1) == []
        there.study.set_user_attr(SEEN + there.name, {"host": "another", "at": time.time() - 31})
        assert claim(here, 1) == claimed


def test_study_keeps_its_objectives_and_choices(tmp_path):
    path = tmp_path / "study.journal"
    study = study_of(path, "x=choice(1,2)")
    space_of("x=choice(1,2)").dimensions[0].suggest(study.ask())
    study_of(path, "x=choice(1,2)")
    with pytest.raises(ConfigError, match=r"^x: study s exists and has other values"):
        study_of(path, "x=choice(1,2,3)")
    with pytest.raises(ConfigError, match="study s exists and has other directions"):
        study_of(path, "x=choice(1,2)", directions={"val/f1": "maximize"})


def test_study_keeps_the_options_that_it_does_not_search(tmp_path):
    path = tmp_path / "study.journal"
    fixed = {"seed": 1, "model.name": "gru", "x": 1, "optimizer.amsgrad": True}
    study_of(path)  # of an earlier version, without options
    study_of(path, options=fixed)
    study_of(path, options=fixed | {"x": 2})  # which is searched
    study_of(path, "model=choice(lstm,gru)", options=fixed | {"model.name": "lstm"})
    other = fixed | {"seed": 7}
    del other["optimizer.amsgrad"]
    for _ in range(2):  # a refusal changes nothing
        with pytest.raises(ConfigError) as refused:
            study_of(path, options=other)
        assert str(refused.value) == (
            "study s exists and has other options: seed=1 (saved), 7 (requested); "
            "optimizer.amsgrad=True (saved), None (requested); take another sweep="
        )


@pytest.mark.parametrize("storage", ["study.journal", "sqlite:///{}/study.db"])
def test_workers_that_start_a_study_at_once_have_the_options_of_the_one_that_creates_it(
    tmp_path, storage
):
    path = storage.format(tmp_path) if "://" in storage else tmp_path / storage
    created = optuna.create_study(study_name="s", storage=open_storage(str(path)))
    creator = threading.Timer(0.5, created.set_user_attr, ("options", {"seed": 1}))
    creator.start()
    with pytest.raises(ConfigError, match=r"seed=1 \(saved\), 2 \(requested\)"):
        study_of(path, options={"seed": 2})
    assert study_of(path, options={"seed": 1}).user_attrs["options"] == {"seed": 1}
    creator.join()


def test_a_worker_writes_what_a_dead_creator_of_a_study_has_not(tmp_path, monkeypatch):
    path = tmp_path / "study.journal"
    optuna.create_study(study_name="s", storage=open_storage(str(path)))
    monkeypatch.setattr("rnn_lab.sweeps.search.study._CREATION_S", 0.0)
    assert study_of(path, options={"seed": 2}).user_attrs["options"] == {"seed": 2}


def test_journal_cut_off_by_a_full_disk_is_read_and_extended(tmp_path):
    path = tmp_path / "study.journal"
    study_of(path).ask()
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"worker_')
    study = study_of(path)
    assert len(study.trials) == 1
    study.ask()
    assert len(study_of(path).trials) == 2
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_error_of_a_storage_does_not_show_its_password():
    with pytest.raises(ConfigError, match="cannot be opened") as error:
        open_storage("postgresql+pg8000://someone:secret@nowhere/a")
    assert "secret" not in str(error.value) and "someone:***@nowhere" in str(error.value)


class ScriptedLosses(L.LightningModule):
    """A module that learns nothing and logs a given val/loss and accuracy in each epoch.

    A list is the losses after each batch of the epoch.
    """

    def __init__(self, losses, accuracies=None):
        super().__init__()
        self.losses, self.layer = losses, torch.nn.Linear(1, 1)
        self.accuracies = accuracies or [0.5] * len(losses)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).sum()

    def validation_step(self, batch, batch_idx):
        # The sanity check's loss is none of an epoch.
        loss = 9.0 if self.trainer.sanity_checking else self.losses[self.current_epoch]
        if isinstance(loss, list):
            loss = loss[self.trainer.fit_loop.epoch_loop.batch_idx]
        self.log_dict({"val/loss": loss, "val/accuracy": self.accuracies[self.current_epoch]})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def train(folder, losses, trial, *, accuracies=None, resume=None, batches=2, interval=1.0):
    """Train as train.py does and return whether the search stopped it."""
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(batches, 1)))
    monitor = ("val/loss", "min") if accuracies is None else ("val/accuracy", "max")
    best = BestCheckpoint(folder, *monitor)
    last = ModelCheckpoint(folder, filename="last", enable_version_counter=False)
    trainer = L.Trainer(
        max_epochs=len(losses),
        callbacks=[best, last, ValidationHistory(), Pruning(TrialConfig(**trial), folder)],
        accelerator="cpu",
        val_check_interval=interval,
        num_sanity_val_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )
    trainer.fit(ScriptedLosses(losses, accuracies), batches, batches, ckpt_path=resume)
    return skips_test(trainer)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("interval", "last"), [(0.25, 3), (3, 2)])
def test_the_last_validation_of_an_epoch_is_the_one_that_counts(tmp_path, interval, last):
    path = tmp_path / "study.journal"
    study = study_of(path, name="median", n_startup_trials=1)
    where = {"study": "s", "storage": str(path), "number": 0}
    study.ask()
    losses = [[0.875, 0.75, 0.625, 0.5], [0.5, 0.375, 0.25, 0.125]]
    assert not train(tmp_path / "0", losses, where, batches=4, interval=interval)
    reported = {epoch + 1: losses[epoch][last] for epoch in range(2)}
    assert study.trials[0].intermediate_values == reported
    study.tell(0, 0.125)
    # No worse than the first after an epoch, though its first validation is.
    study.ask()
    losses = [[1.5, 1.0, 0.5, 0.5], [1.5, 1.0, 0.125, 0.125]]
    assert not train(tmp_path / "1", losses, where | {"number": 1}, batches=4, interval=interval)


@pytest.mark.filterwarnings("ignore")
def test_bad_run_is_pruned_and_an_interrupted_one_stays_so(tmp_path):
    path = tmp_path / "study.journal"
    study = study_of(path, name="median", n_startup_trials=1)
    where = {"study": "s", "storage": str(path)}
    for number, losses in enumerate([[0.5, 0.375, 0.25, 0.125], [0.375, 0.625, 0.5, 0.0]]):
        study.ask()
        stopped = train(tmp_path / str(number), losses, {"number": number, **where})
        reported = study.trials[number].intermediate_values
        if number == 0:
            assert not stopped and reported == {1: 0.5, 2: 0.375, 3: 0.25, 4: 0.125}
            study.tell(0, 0.125)
    # Its best, 0.375, is as good as the first run's after two epochs, and worse after three.
    assert stopped and reported == {1: 0.375, 2: 0.625, 3: 0.5}
    assert json.loads((tmp_path / "1" / "pruned.json").read_text()) == {
        **{"epoch": 2, "epochs": 3, "monitored_metric": "val/loss", "monitored_mode": "min"},
        **{"value": 0.5, "best_epoch": 0, "val/loss": 0.375, "val/accuracy": 0.5},
    }
    # Interrupted before the checkpoint of its last epoch, it repeats the epochs it has reported.
    again = train(tmp_path / "1", [0.375, 0.625, 0.5, 0.0], {"number": 1, **where})
    assert again and study.trials[1].intermediate_values == reported

    study.ask()
    third, losses = tmp_path / "2", [0.125, 0.125, 0.875, 0.875]
    assert not train(third, losses[:2], {"number": 2, **where})
    steps = path.read_text().count('"step":')
    assert not train(third, losses, {"number": 2, **where}, resume=third / "last.ckpt")
    assert path.read_text().count('"step":') == steps + 2
    assert study.trials[2].intermediate_values == {1: 0.125, 2: 0.125, 3: 0.875, 4: 0.875}


@pytest.mark.filterwarnings("ignore")
def test_a_pruned_run_has_the_metrics_of_the_epoch_of_best_ckpt(tmp_path):
    """Of epochs that are equal in the metric, it is the one with the lowest loss."""
    path = tmp_path / "study.journal"
    study = study_of(path, name="median", n_startup_trials=1)
    runs = ([0.5, 0.375, 0.25, 0.125], [0.5] * 4), ([0.45, 0.375, 0.5, 0.0], [0.5, 0.5, 0.4, 0.9])
    for number, (losses, accuracies) in enumerate(runs):
        study.ask()
        trial = {"number": number, "study": "s", "storage": str(path)}
        stopped = train(tmp_path / str(number), losses, trial, accuracies=accuracies)
        if number == 0:
            study.tell(0, 0.125)
    assert stopped
    pruned = json.loads((tmp_path / "1" / "pruned.json").read_text())
    best = torch.load(tmp_path / "1" / "best.ckpt", weights_only=True)
    assert pruned["best_epoch"] == best["epoch"] == 1
    assert (pruned["val/accuracy"], pruned["val/loss"]) == (0.5, 0.375)


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_starts_over_reports_and_is_judged_by_its_new_metrics(tmp_path, capsys):
    """As with half the batch size, once memory ran out."""
    path = tmp_path / "study.journal"
    study = study_of(path, name="median", n_startup_trials=1)
    where = {"study": "s", "storage": str(path)}
    study.ask()
    train(tmp_path / "0", [0.5, 0.375, 0.25, 0.125], {"number": 0, **where})
    study.tell(0, 0.125)

    study.ask()
    train(tmp_path / "1", [0.125, 0.0, 0.0], {"number": 1, **where})
    assert not train(tmp_path / "1", [0.375, 0.625, 0.0, 0.0], {"number": 1, **where})
    assert study.trials[1].intermediate_values == {1: 0.375, 2: 0.625, 3: 0.0, 4: 0.0}

    study.ask()
    train(tmp_path / "2", [0.125, 0.0, 0.0], {"number": 2, **where})
    # Worse than the first run after two epochs. The third one is of the attempt before.
    assert train(tmp_path / "2", [0.5, 0.625, 0.75, 0.0], {"number": 2, **where})
    assert study.trials[2].intermediate_values == {1: 0.5, 2: 0.625, 3: 0.0}
    study.tell(2, state=TrialState.PRUNED)
    print_trial(study, 2)
    assert "trial 2: pruned after epoch 1;" in capsys.readouterr().out


FILES = ("data=files", "data.train_path=mine.csv")
HAMMING = ("+metrics.hamming._target_=torchmetrics.HammingDistance", "trainer.monitor=val/hamming")


@pytest.mark.parametrize(
    ("overrides", "directions"),
    [
        (("data=demo",), {"val/accuracy": "maximize"}),
        (FILES, {"monitored_metric": "maximize"}),  # each run chooses by its texts
        (("data=imdb", "objective=language_model"), {"val/loss": "minimize"}),
        ((*FILES, "objective=language_model"), {"val/loss": "minimize"}),
        (("trainer.monitor=val/f1",), {"val/f1": "maximize"}),
        (HAMMING, {"val/hamming": "maximize"}),
        ((*HAMMING, "trainer.monitor_mode=min"), {"val/hamming": "minimize"}),
        ((*FILES, "trainer.monitor_mode=min"), {"monitored_metric": "minimize"}),
    ],
)
def test_a_search_optimizes_what_its_runs_monitor(overrides, directions):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        job = hydra.compose("train", overrides=list(overrides), return_hydra_config=True)
    assert default_directions(job) == directions


def test_a_search_of_another_program_needs_a_monitor_or_directions():
    another = OmegaConf.create({"hydra": {"job": {"name": "bowl"}}})
    with pytest.raises(ConfigError, match="directions: name the metrics"):
        default_directions(another)
    another.trainer = {"monitor": "val/error"}
    assert default_directions(another) == {"val/error": "minimize"}


def test_metrics_of_validation_are_checked_before_any_trial():
    def check(metric: str, *overrides: str) -> None:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            check_metrics(
                [metric, "timing.wall_time_s"],
                hydra.compose("train", overrides=list(overrides), return_hydra_config=True),
            )

    with pytest.raises(ConfigError, match=r"val/acuracy: no such metric\. Did you mean val/acc"):
        check("val/acuracy")
    with pytest.raises(ConfigError, match="val/hamming: no such metric"):
        check("val/hamming")
    check("val/hamming", *HAMMING)
    check("val/map", *FILES)
    check("val/own", "+callbacks.own._target_=a.callback.that.may.log.it")


@pytest.mark.filterwarnings("ignore")
def test_a_metric_that_a_run_does_not_log_is_named(tmp_path):
    path = tmp_path / "study.journal"
    study_of(path, directions={"val/map": "maximize"}, name="median").ask()
    with pytest.raises(ConfigError, match=r"val/map: is not logged .*: val/loss, val/accuracy$"):
        train(tmp_path / "0", [0.5, 0.25], {"number": 0, "study": "s", "storage": str(path)})


@pytest.mark.filterwarnings("ignore")
def test_monitored_metric_is_looked_up_in_the_run(tmp_path):
    result = {"val/f1": 0.5, "val/accuracy": 0.75, "monitored_metric": "val/f1"}
    (tmp_path / "result.json").write_text(json.dumps(result))
    found = trial_outcome(JobDir(tmp_path), ["monitored_metric"])
    assert found == (TrialState.COMPLETE, [0.5], "")

    path = tmp_path / "study.journal"
    study = study_of(path, directions={"monitored_metric": "minimize"})
    study.ask()
    train(tmp_path / "0", [0.5, 0.25], {"study": "s", "storage": str(path), "number": 0})
    assert study.trials[0].intermediate_values == {1: 0.5, 2: 0.25}  # val/loss


def test_hyperband_without_a_last_epoch_finds_its_resource():
    study = optuna.create_study()
    study.set_user_attr("pruner", PrunerOptions(name="hyperband").model_dump())
    study.set_user_attr("max_epochs", -1)
    study.pruner = build_pruner(study)
    trial = study.ask()
    trial.report(0.5, 1)
    assert not trial.should_prune()
