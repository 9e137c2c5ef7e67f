"""More epochs for a finished run: which run gets them, and what an error says otherwise."""

import json

import pytest

from rnn_lab.errors import OutputDirConflictError
from rnn_lab.training.more_epochs import (
    asks_for_more_epochs,
    check_early_stop,
    check_finished,
    check_schedule,
    find_early_end,
    is_exact,
    may_change,
)
from rnn_lab.training.spec import config_fingerprint
from rnn_lab.validation import flatten
from tests.test_conf import composed
from tests.training.test_resume import METADATA, interrupt, resume_point

TRAINED = {
    **{"trainer.max_epochs": 3, "trainer.patience": None, "optimizer.lr": 0.004},
    **{"scheduler.name": "constant", "scheduler.warmup_ratio": 0.0},
}
CYCLE = TRAINED | {"scheduler.name": "one_cycle", "scheduler.warmup_ratio": 0.1}
PATIENT = TRAINED | {"trainer.patience": 4}


def more(options=TRAINED, **changed):
    return (
        options | {"trainer.max_epochs": 5} | {n.replace("__", "."): v for n, v in changed.items()}
    )


@pytest.mark.parametrize(
    ("trained", "wanted", "epochs", "asks"),
    [
        (TRAINED, more(), 3, True),
        (TRAINED, more(trainer__max_epochs=-1), 3, True),
        (TRAINED, TRAINED, 3, False),
        (TRAINED, more(trainer__max_epochs="auto"), 3, False),
        (TRAINED, more(trainer__max_epochs=2), 3, False),
        (PATIENT, PATIENT | {"trainer.patience": 9}, 2, True),  # it was stopped early
        (PATIENT, PATIENT | {"trainer.patience": "auto"}, 2, False),
        (PATIENT, PATIENT | {"trainer.patience": 9}, 3, False),
    ],
)
def test_asks_for_more_epochs(trained, wanted, epochs, asks):
    assert asks_for_more_epochs(trained, wanted, epochs) == asks


@pytest.mark.parametrize(
    ("trained", "wanted", "exact"),
    [
        (TRAINED, more(), True),
        (PATIENT, more(PATIENT, trainer__patience=9), True),
        (PATIENT, more(PATIENT, trainer__patience=None), True),
        (TRAINED, more(trainer__patience=9), False),  # it might have been stopped early
        (PATIENT, more(PATIENT, trainer__patience=1), False),
        (TRAINED, more(optimizer__lr=0.001), False),
        (CYCLE, more(), False),
        (CYCLE, more(CYCLE), False),
    ],
)
def test_is_exact(trained, wanted, exact):
    changed = [name for name in trained if trained[name] != wanted[name]]
    assert all(map(may_change, changed))
    assert is_exact(changed, trained, wanted) == exact


def test_schedule_that_has_ended_is_to_be_restated():
    for trained, advice in (
        (CYCLE, "scheduler=constant"),
        (TRAINED | {"scheduler.warmup_ratio": 0.1}, "scheduler.warmup_ratio=0"),
    ):
        message = rf"^run: .* another schedule \({advice}; optimizer\.lr may change too\)"
        for changed in ({}, {"optimizer__lr": 0.001}):  # the rate alone is not a schedule
            with pytest.raises(OutputDirConflictError, match=message):
                check_schedule("run", trained, more(trained, **changed))
        check_schedule("run", trained, more(TRAINED))
        check_schedule("run", trained, more(CYCLE, scheduler__warmup_ratio=0.5))
    check_schedule("run", TRAINED, more())


def test_run_that_ended_early_needs_more_than_epochs():
    patient = TRAINED | {"trainer.max_epochs": 9, "trainer.patience": 4}

    def check(trained, epochs, **changed):
        check_early_stop("run", trained, more(trained, trainer__max_epochs=12, **changed), epochs)

    for changed in ({}, {"trainer__patience": "auto"}):
        with pytest.raises(
            OutputDirConflictError, match=r"5 of 9 epochs because of trainer\.patie"
        ):
            check(patient, 5, **changed)
    check(patient, 5, trainer__patience=5)
    check(patient, 5, trainer__patience=None)
    check(patient, 9)


def test_a_run_without_a_last_epoch_has_ended_after_those_that_it_has():
    options = TRAINED | {"trainer.max_epochs": -1, "trainer.max_steps": 3}
    ended = find_early_end(options, 2)
    assert ended.description == "ended after 2 epochs because of trainer.max_steps=3"


@pytest.mark.parametrize(
    ("options", "epochs", "reason"),
    [
        ({"trainer.max_steps": 7}, 2, r"trainer\.max_steps=7, so"),
        ({"trainer.max_steps": -1, "trainer.max_time": "00:00:01"}, 2, r"trainer\.max_time=.*, so"),
        ({"trainer.patience": 4, "trainer.max_steps": 7}, 2, r"trainer\.max_steps=7, so"),
        ({"trainer.patience": 1, "trainer.max_steps": 7}, 2, r"trainer\.patience=1 or .*=7; more"),
        (
            {"trainer.patience": 4, "trainer.val_check_interval": 0.2},
            2,
            r"trainer\.patience=4; more",
        ),
        ({"trainer.patience": 4}, 2, r"a callback, so"),
    ],
)
def test_what_ended_a_run_is_named(options, epochs, reason):
    with pytest.raises(OutputDirConflictError, match=f"{epochs} of 3 epochs because of {reason}"):
        check_early_stop("run", TRAINED | options, more(TRAINED | options), epochs)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({}, r", or a larger trainer\.max_epochs to train it further$"),
        ({"trainer.patience": 1}, r", or a larger trainer\.patience .* 2 of 3 .*patience=1$"),
        (
            {"trainer.max_time": "00:00:00:01"},
            r"; choose another folder\. It ended after 2 of 3 .*",
        ),
    ],
)
def test_repeated_command_says_what_would_continue_its_run(tmp_path, options, advice):
    flat = TRAINED | options
    epochs = 2 if options else 3
    result = {"epochs": epochs, "trainer": {n.partition(".")[2]: v for n, v in flat.items()}}
    (tmp_path / "result.json").write_text(json.dumps(result))
    same = [f"{name}={json.dumps(value)}" for name, value in options.items()]
    with pytest.raises(OutputDirConflictError, match=advice):
        check_finished("run", tmp_path, composed("experiment=smoke", "trainer.max_epochs=3", *same))


def test_options_of_a_finished_run_are_compared_as_they_were_given(tmp_path):
    """With `auto` before, which its result.json no longer has."""
    small = ("experiment=smoke", "trainer.max_epochs=auto")
    finished = composed(*small, "scheduler=constant")
    flat = flatten(finished.model_dump(mode="json"))
    chosen = {"max_epochs": 3, "patience": None, "monitor": "val/accuracy"}
    result = {
        **{group: finished.model_dump(mode="json")[group] for group in ("model", "optimizer")},
        "scheduler": finished.scheduler.model_dump(),
        "trainer": finished.trainer.model_dump(mode="json") | chosen,
        "epochs": 3,
        "config_fingerprint": config_fingerprint(finished),
    }
    assert flat["trainer.max_epochs"] == "auto"
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()

    def check(*options: str) -> None:
        check_finished("run", tmp_path, composed("experiment=smoke", *options))

    check("scheduler=constant", "trainer.max_epochs=4")
    check("scheduler=cosine", "trainer.max_epochs=4", "optimizer.lr=0.1")
    with pytest.raises(OutputDirConflictError, match=r"larger trainer\.max_epochs to tra"):
        check("scheduler=constant", "trainer.max_epochs=3")
    with pytest.raises(OutputDirConflictError, match="was trained with other options"):
        check("scheduler=constant", "trainer.max_epochs=4", "model.hidden_size=5")
    (tmp_path / "checkpoints" / "last.ckpt").unlink()
    check("scheduler=constant", "trainer.max_epochs=4", "resume=never")
    with pytest.raises(OutputDirConflictError, match=r"without checkpoints/last\.ckpt.*=never"):
        check("scheduler=constant", "trainer.max_epochs=4")
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(OutputDirConflictError, match="contains a finished run"):
        check("scheduler=constant", "trainer.max_epochs=4")


@pytest.mark.parametrize("change", [{"seed": 2}, {"data.fingerprint": "others"}])
def test_last_checkpoint_of_other_options_or_texts_is_refused(tmp_path, change):
    saved = METADATA["signature"] | TRAINED | {"data.fingerprint": "texts"}
    interrupt(tmp_path, epoch=3, batch_idx=0, training_complete=True, signature=saved)
    found = resume_point(tmp_path, METADATA | {"signature": more(saved)})
    assert found is not None and found.extends and found.changed == ("trainer.max_epochs",)
    name = next(iter(change))
    with pytest.raises(OutputDirConflictError, match=rf"a finished training with .*{name}="):
        resume_point(tmp_path, METADATA | {"signature": more(saved) | change})
