"""Runs that label texts for another run: with the probabilities that they predict."""

import json
import re
import shutil

import numpy as np
import pytest

import rnn_lab
from rnn_lab.commands import export
from rnn_lab.data.encode import EncodedTexts
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.training.hardware import Hardware
from rnn_lab.training.teacher import RunTeacher
from tests.cli.forked import run_warm_command

CPU = Hardware("cpu", 1, "32-true")
TEXTS = ["the film was lovely", "", "an awful scene", "passable music", "lovely lovely film then"]
SIZES = ("model.hidden_size=8", "model.embedding_dim=8", "data.batch_size=16", "logger=none")


def encode(vocabulary):
    """Return TEXTS as `rnn_lab.data.pseudo_labels` does: one has no ids."""
    ids = vocabulary.encode_all(TEXTS)
    lengths = np.array([len(one) for one in ids])
    return EncodedTexts(np.concatenate(ids), np.cumsum(lengths) - lengths, lengths)


@pytest.fixture(scope="module")
def other_run(mood_reviews, tmp_path_factory):
    """A run on the same texts with another cell and vocabulary."""
    cwd = tmp_path_factory.mktemp("other")
    options = "data=files", f"data.train_path={mood_reviews}", "hydra.run.dir=run", "model=lstm"
    more = "trainer.max_epochs=2", "data.max_vocab_size=9", "optimizer.lr=0.03", "plots=false"
    done = run_warm_command("train.py", *options, *more, *SIZES, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "run"


def test_probabilities_are_those_that_the_runs_predict(mood_run, other_run):
    shown = [text for text in TEXTS if text]
    alone = RunTeacher(str(mood_run), CPU)
    found = alone.probabilities(encode)
    assert alone.class_names == rnn_lab.load(mood_run).class_names
    np.testing.assert_allclose(found[[0, 2, 3, 4]], _predicted([mood_run], shown), atol=1e-6)
    assert not found[1].any()
    both = RunTeacher([str(mood_run), str(other_run)], CPU)
    expected = _predicted([mood_run, other_run], shown)
    np.testing.assert_allclose(both.probabilities(encode)[[0, 2, 3, 4]], expected, atol=1e-6)
    assert both.key != alone.key == RunTeacher([str(mood_run)], CPU).key
    rough = RunTeacher(str(mood_run), Hardware("cpu", 1, "bf16-mixed"))
    assert rough.key != alone.key
    np.testing.assert_allclose(rough.probabilities(encode), found, atol=0.02)


def _predicted(runs, texts):
    answers = rnn_lab.load([str(run) for run in runs]).predict(texts)
    return [list(answer.probabilities.values()) for answer in answers]


def test_what_cannot_label_is_refused_in_one_line(mood_run, tmp_path, mood_reviews):
    with pytest.raises(CheckpointError, match=r"data\.teacher: .*nowhere: no such run folder"):
        RunTeacher(str(tmp_path / "nowhere"), CPU)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(mood_run, unfinished)
    (unfinished / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"data\.teacher: .*: unfinished; wait for its end"):
        RunTeacher(str(unfinished), CPU)
    assert RunTeacher(str(unfinished / "checkpoints" / "last.ckpt"), CPU).class_names
    options = "data=files", f"data.train_path={mood_reviews}", "plots=false", *SIZES
    language = "objective=language_model", "trainer.max_epochs=1", "hydra.run.dir=lm"
    done = run_warm_command("train.py", *options, *language, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with pytest.raises(CheckpointError, match=r"data\.teacher: .* of a language model"):
        RunTeacher([str(mood_run), str(tmp_path / "lm")], CPU)
    rows = ["text,mood,pace", "a,1,0", "b,0,1", "c,1,1", "d,0,0", *["e,1,0", "f,0,1"] * 20]
    (tmp_path / "many.csv").write_text("\n".join(rows))
    many = "data=files", "data.train_path=many.csv", "data.label_column=[mood,pace]"
    more = "trainer.max_epochs=1", "hydra.run.dir=many", "plots=false", "baseline=none"
    done = run_warm_command("train.py", *many, *more, *SIZES, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with pytest.raises(ConfigError, match="any number of labels a text"):
        RunTeacher(str(tmp_path / "many"), CPU)


def test_a_run_learns_from_the_texts_that_another_one_labels(mood_run, mood_reviews, tmp_path):
    more = [f"{word} scene {i}" for i in range(30) for word in ("lovely", "awful", "passable")]
    (tmp_path / "more.txt").write_text("\n".join([*more, "unknown words"]))
    few = "data=files", f"data.train_path={mood_reviews}", "data.train_size=20", "plots=false"
    options = *few, *SIZES, "trainer.max_epochs=8", "optimizer.lr=0.03", "baseline=none"
    teacher = "data.unlabelled=more.txt", f"data.teacher={mood_run}", "data.teacher_threshold=0.9"
    alone = run_warm_command("train.py", *options, "hydra.run.dir=alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    done = run_warm_command("train.py", *options, *teacher, "hydra.run.dir=student", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Pseudo-labels: 90 of 91 unlabelled texts, with a probability of 0.9" in done.stdout
    result = json.loads((tmp_path / "student" / "result.json").read_text())
    about = result["data"]["pseudo_labels"]
    assert about["per_class"] == {"bad": 30, "good": 30, "so so": 30}
    assert (about["num_unlabelled"], about["held_out"]) == (91, 0)
    accuracy = [
        json.loads((tmp_path / run / "result.json").read_text())["test/accuracy"]
        for run in ("alone", "student")
    ]
    assert accuracy[1] > accuracy[0] + 0.1, accuracy

    export([f"run={tmp_path / 'student'}", f"output={tmp_path / 'model.safetensors'}"])
    card = (tmp_path / "model.safetensors.md").read_text()
    assert "Beside the training split it was trained on 90 texts with labels that another" in card

    # Its checkpoint is tested with the same options: `auto` counts the pseudo-labelled texts.
    tested = "train=false", "ckpt_path=student/checkpoints/best.ckpt", "hydra.run.dir=tested"
    done = run_warm_command("train.py", *options, *teacher, *tested, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "tested" / "result.json").read_text())
    assert found["test/loss"] == result["test/loss"]
    assert found["data"]["pseudo_labels"] == about

    # It is complete without its teacher, and reproduced with an equal one under another name.
    moved = tmp_path / "moved"
    shutil.copytree(mood_run, moved)
    again = "reproduce=student", f"data.teacher={moved}", "hydra.run.dir=again"
    done = run_warm_command("train.py", *again, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    second = json.loads((tmp_path / "again" / "result.json").read_text())
    assert second["data"]["pseudo_labels"] == about
    assert second["test/loss"] == result["test/loss"]


def test_out_of_memory_halves_the_batch_for_all_texts_that_are_trained_on(
    mood_run, mood_reviews, tmp_path
):
    """`auto` means other sizes for 1,100 texts than for the 20 that have a label."""
    words = ("lovely", "awful", "passable")
    more = [f"{words[i % 3]} scene {i}" for i in range(1_100)]
    (tmp_path / "more.txt").write_text("\n".join(more))
    done = run_warm_command(
        "train.py",
        *("data=files", f"data.train_path={mood_reviews}", "data.train_size=20", "logger=none"),
        *("data.unlabelled=more.txt", f"data.teacher={mood_run}", "data.teacher_threshold=0.5"),
        *("model.hidden_size=8", "model.embedding_dim=8", "trainer.max_epochs=1", "plots=false"),
        "+callbacks.limit={_target_: tests.training.user_callbacks.LimitBatch, texts: 20}",
        *("baseline=none", "hydra.run.dir=student"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "student: out of memory with data.batch_size=32 trainer.accumulate_grad_batches=1; starts "
        "over with data.batch_size=16 trainer.accumulate_grad_batches=2\n"
    ) in done.stderr
    result = json.loads((tmp_path / "student" / "result.json").read_text())
    assert result["data"]["pseudo_labels"]["num_examples"] > 1_000
    options = result["data"]["options"]
    assert (options["batch_size"], result["trainer"]["accumulate_grad_batches"]) == (16, 2)
    assert options["max_length"] == 16


def test_a_run_does_not_resume_with_a_teacher_that_labels_otherwise(
    mood_run, other_run, mood_reviews, tmp_path
):
    teacher = tmp_path / "teacher"
    shutil.copytree(mood_run, teacher)
    (tmp_path / "more.txt").write_text("\n".join(f"lovely scene {i}" for i in range(20)))
    options = (
        *("data=files", f"data.train_path={mood_reviews}", "data.train_size=40", *SIZES),
        *("data.unlabelled=more.txt", f"data.teacher={teacher}", "data.teacher_threshold=0.34"),
        "seed=7",
        *("hydra.run.dir=student", "plots=false", "baseline=none", "scheduler=constant"),
    )
    done = run_warm_command("train.py", *options, "trainer.max_epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for split in ("validation", "test"):  # another seed has other splits
        shared = re.search(rf"teacher was trained on (\d+) of the (\d+) {split} te", done.stdout)
        assert 0 < int(shared[1]) <= int(shared[2])
    assert "give both runs the same seed, or the same data.split_seed" in done.stdout
    folds = "data.folds=2", "data.fold=1", "trainer.fast_dev_run=true", "hydra.run.dir=folded"
    done = run_warm_command("train.py", *options, *folds, cwd=tmp_path)
    assert "give both runs the same data.split_seed and data.fold" in done.stdout, done.stderr
    shutil.rmtree(teacher)
    shutil.copytree(other_run, teacher)
    done = run_warm_command("train.py", *options, "trainer.max_epochs=2", cwd=tmp_path)
    assert done.returncode == 1
    assert "data.pseudo_labels_fingerprint" in done.stderr
    shutil.rmtree(teacher)
    shutil.copytree(mood_run, teacher)
    done = run_warm_command("train.py", *options, "trainer.max_epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
