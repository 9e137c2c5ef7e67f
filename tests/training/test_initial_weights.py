"""Vectors and layers that a training starts from; that they are read once, and what is refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.vocabulary import SPECIALS, WordTokenizer
from rnn_lab.errors import CheckpointError, ConfigError, DataError
from rnn_lab.inference.load import load_model
from rnn_lab.models.embedding import INITIAL_STD, scale_vectors
from rnn_lab.training.config import RunConfig
from rnn_lab.training.initial_weights import (
    InitialWeights,
    initial_vocabulary,
    load_initial_weights,
    match_tokens,
)
from rnn_lab.training.recipe import resolve_recipe
from tests.cli.forked import run_warm_command
from tests.test_conf import composed


def words(*tokens: str) -> WordTokenizer:
    return WordTokenizer([*SPECIALS, *tokens])


def test_words_of_both_vocabularies_are_matched():
    mine, theirs = match_tokens(words("a", "film", "new"), words("film", "old", "a"))
    assert (mine, theirs) == ([1, 2, 3], [1, 4, 2])
    assert match_tokens(words("a", "b"), words("a", "b")) == ([1, 2, 3], [1, 2, 3])


def test_vectors_have_the_scale_of_random_ones():
    vectors = torch.randn(300, 8) * 7
    scaled = scale_vectors(vectors)
    assert scaled.std().item() == pytest.approx(INITIAL_STD)
    torch.testing.assert_close(scaled / scaled[0, 0], vectors / vectors[0, 0])
    assert scale_vectors(torch.zeros(2, 3)).abs().max() == 0
    assert scale_vectors(torch.empty(0, 3)).shape == (0, 3)


SIZES = ("model.hidden_size=16", "model.embedding_dim=16", "data.batch_size=16")


@pytest.fixture
def load(mood_reviews, tmp_path):
    """Compose a run on the moods and load what it starts from."""

    def load_weights(*overrides: str) -> InitialWeights:
        paths = (f"data.train_path={mood_reviews}", f"data.cache_dir={tmp_path}")
        config = composed("data=files", *SIZES, *paths, *overrides)
        data = TextDataModule(config.data)
        data.setup()
        return load_initial_weights(resolve_recipe(config, data), data)

    return load_weights


def test_all_but_the_last_layer_and_the_ngrams_come_from_another_run(load, mood_run):
    found, source = load(f"model.init_from={mood_run}"), load_model(mood_run)
    theirs = source.model.state_dict()
    assert set(found.layers) == {name for name in theirs if name.startswith("recurrent.")}
    assert found.rows.tolist() == list(range(1, source.text_encoder.vocab_size))
    assert torch.equal(found.vectors, theirs["embedding.weight"][1:])
    assert found.about["init_from"]["coverage"] == {"vocabulary": 1.0}
    assert set(found.signature) == {"model.init_from_fingerprint"}
    best = mood_run / "checkpoints" / "best.ckpt"
    assert load(f"model.init_from={best}").signature == found.signature
    assert load(f"model.init_from={mood_run}", "train=false", "ckpt_path=x").about == {}


def test_texts_that_the_other_run_was_trained_on_are_reported(
    load, mood_run, tmp_path, caplog, capsys
):
    start = r"model\.init_from was trained on (\d+) of the 80 test texts, so that .*: "
    pattern = (
        start + r"give this run texts of its own \(data\.val_path, data\.test_path\), or both runs "
        "the same files and the same seed, or the same data.split_seed"
    )
    load(f"model.init_from={mood_run}")
    duplicate = start + "they are duplicates, .*; give both runs data.drop_duplicates=true"
    assert re.findall(duplicate, caplog.text) == ["1"]
    caplog.clear()
    load(f"model.init_from={mood_run}", "data.drop_duplicates=true")
    assert re.findall(f"{pattern}, and data.drop_duplicates=true", caplog.text) == ["1"]
    caplog.clear()
    load(f"model.init_from={mood_run}", "data.split_seed=7")
    (number,) = re.findall(pattern, caplog.text)
    assert int(number) > 40
    assert "validation texts, so that" in caplog.text
    assert "cannot tell" not in capsys.readouterr().out
    caplog.clear()
    shutil.copy(mood_run / "checkpoints" / "best.ckpt", tmp_path / "copy.ckpt")
    load(f"model.init_from={tmp_path}/copy.ckpt", "data.split_seed=7")
    assert not caplog.text
    line = "model.init_from: cannot tell which texts it was trained on: no train_hashes.npy"
    assert capsys.readouterr().out.count(line) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("model.hidden_size=8",), "model.hidden_size=16, here 8"),
        (("model.bidirectional=false", "model.num_layers=2"), "true, here false"),
        (("model=lstm",), "model.name=gru, here lstm; model.reset_after=true, here null"),
        (("model.reset_after=false",), "model.reset_after=true, here false"),
        (("data.tokenizer=char",), "data.tokenizer=basic_english, here char"),
    ],
)
def test_another_network_is_refused_by_the_options_that_differ(load, mood_run, options, message):
    with pytest.raises(ConfigError) as error:
        load(f"model.init_from={mood_run}", *options)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"model.init_from={mood_run}: was trained with other options: ")
    assert message in line


def test_an_unfinished_run_is_refused_unless_its_checkpoint_is_named(load, mood_run, tmp_path):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(mood_run, unfinished)
    (unfinished / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"model\.init_from: .*: unfinished; wait for its"):
        load(f"model.init_from={unfinished}")
    assert load(f"model.init_from={unfinished}/checkpoints/last.ckpt").layers


def test_no_run_and_two_origins_are_refused(load, tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.init_from: .*nowhere: no such run folder"):
        load(f"model.init_from={tmp_path}/nowhere")
    with pytest.raises(ConfigError, match="both say what words start from"):
        composed("data=demo", "model.init_from=run", "data.vectors=skipgram")


def test_words_of_few_texts_and_of_the_run_are_known(mood_run, tmp_path):
    (tmp_path / "few.csv").write_text("text,label\n" + "zyzzyva film,good\nthe film,bad\n" * 20)
    config = composed(
        *("data=files", f"data.train_path={tmp_path}/few.csv", f"data.cache_dir={tmp_path}"),
        *(f"model.init_from={mood_run}", *SIZES),
    )
    source = load_model(mood_run)
    data = TextDataModule(config.data, base_vocabulary=initial_vocabulary(config.model))
    data.setup()
    known = source.text_encoder.vocabulary.tokens
    assert data.text_encoder.vocabulary.tokens == [*known, "zyzzyva"]
    assert "music" in known  # which no text here has
    found = load_initial_weights(resolve_recipe(config, data), data)
    assert found.rows.tolist() == list(range(1, len(known) + 1))
    theirs = source.model.state_dict()["embedding.weight"]
    assert torch.equal(found.vectors, torch.cat([theirs[1:], theirs[1:2]]))  # <unk> for the new


def test_a_resumed_run_needs_neither_the_run_nor_its_words(mood_run, mood_reviews, tmp_path):
    shutil.copytree(mood_run, tmp_path / "first")
    few = mood_reviews.read_text().splitlines()[:80]
    (tmp_path / "few.csv").write_text("\n".join([*few, "zyzzyva,happy", "zyzzyva,sad"]))
    options = (
        *("data.train_path=few.csv", "model.init_from=first", "trainer.max_epochs=2"),
        "+callbacks.keep={_target_: tests.training.user_callbacks.KeepFirst}",
    )
    printed = train(tmp_path, "run", *options)
    assert "1 more tokens of these texts start from its <unk>" in printed
    shutil.copytree(tmp_path / "again", tmp_path / "moved")
    shutil.copytree(tmp_path / "again", tmp_path / "refused")
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "data")
    train(tmp_path, "again", *options)
    expected, found = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("run", "again")
    )
    for weight, value in expected["state_dict"].items():
        assert torch.equal(value, found["state_dict"][weight]), weight
    # At another place, it is compared.
    train(tmp_path, "moved", *options, "model.init_from=elsewhere")
    moved = torch.load(tmp_path / "moved" / "checkpoints" / "last.ckpt", weights_only=True)
    for weight, value in expected["state_dict"].items():
        assert torch.equal(value, moved["state_dict"][weight]), weight
    refusal = train(tmp_path, "refused", *options, "model.init_from=run", status=1)
    assert "with different options: model.init_from_fingerprint=" in refusal
    # So does a test of a checkpoint.
    best = "ckpt_path=run/checkpoints/best.ckpt"
    train(tmp_path, "tested", *options, "train=false", best, "test=true", "data.test_path=few.csv")


def test_a_reproduced_run_starts_from_the_same_weights(load, mood_run, mood_reviews, tmp_path):
    (tmp_path / "mine.vec").write_text("film 1 2\nmusic 3 4\n")
    options = ("model.embedding_dim=2", f"data.vectors={tmp_path}/mine.vec")
    found = load(*options)
    record = json.loads((mood_run / "result.json").read_text()) | found.about
    (tmp_path / "result.json").write_text(json.dumps(record))
    assert load(*options, f"reproduce={tmp_path}").about == found.about
    (tmp_path / "mine.vec").write_text("film 1 2\nmusic 3 5\n")
    with pytest.raises(DataError, match=r"began with other weights than those of data\.vectors"):
        load(*options, f"reproduce={tmp_path}")


def test_the_share_of_the_learning_rate_is_that_of_vectors(mood_reviews, tmp_path):
    paths = (f"data.train_path={mood_reviews}", f"data.cache_dir={tmp_path}")

    def factor(*overrides: str) -> Any:
        config: RunConfig = composed("data=files", *paths, *overrides)
        data = TextDataModule(config.data)
        data.setup()
        return resolve_recipe(config, data).optimizer.vectors_lr_factor

    assert factor() == 1
    assert factor("data.vectors=skipgram") == 0.25
    assert factor("data.vectors=skipgram", "optimizer.vectors_lr_factor=0") == 0


def train(cwd: Path, name: str, *arguments: str, status: int = 0) -> str:
    small = (*SIZES, "data=files", "logger=none", "trainer=cpu", "baseline=none", "test=false")
    small += ("plots=false",)
    done = run_warm_command("train.py", *small, *arguments, f"hydra.run.dir={name}", cwd=cwd)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def test_a_resumed_run_does_not_read_the_vectors_again_and_ends_with_the_same_bits(
    mood_reviews, tmp_path
):
    texts = [line.rpartition(",")[0] for line in mood_reviews.read_text().splitlines()[1:]]
    (tmp_path / "more.txt").write_text("\n".join(f"{text} indeed" for text in texts))
    options = (
        *(f"data.train_path={mood_reviews}", "data.vectors=skipgram", "data.unlabelled=more.txt"),
        *(
            "trainer.max_epochs=2",
            "+callbacks.keep={_target_: tests.training.user_callbacks.KeepFirst}",
        ),
    )
    printed = train(tmp_path, "run", *options)
    assert "and 400 unlabelled ones (0 more" in printed
    assert "optimizer.vectors_lr_factor=0.25" in printed
    shutil.copytree(tmp_path / "again", tmp_path / "moved")
    (tmp_path / "more.txt").rename(tmp_path / "elsewhere.txt")
    shutil.rmtree(tmp_path / "data")
    train(tmp_path, "again", *options)
    more = (tmp_path / "elsewhere.txt").read_text()
    (tmp_path / "elsewhere.txt").write_text(f"{more}\nanother scene with music")
    other = train(tmp_path, "moved", *options, "data.unlabelled=elsewhere.txt", status=1)
    assert "with different options: data.vectors_fingerprint=" in other
    (tmp_path / "elsewhere.txt").write_text(more)
    train(tmp_path, "moved", *options, "data.unlabelled=elsewhere.txt")
    once, again = (json.loads((tmp_path / n / "result.json").read_text()) for n in ("run", "again"))
    assert once["vectors"]["texts"]["unlabelled"] == 400
    assert once["vectors"]["coverage"]["training_tokens"] > 0.99
    for record in (once, again):
        del record["timing"], record["git_commit"], record["overrides"]
    assert again == once
    expected, found = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("run", "again")
    )
    for weight, value in expected["state_dict"].items():
        assert torch.equal(value, found["state_dict"][weight]), weight
    assert found["resume"]["signature"] == expected["resume"]["signature"]
    fingerprint = once["vectors"]["fingerprint"]
    assert found["resume"]["signature"]["data.vectors_fingerprint"] == fingerprint

    # A run that hardly moves shows what another one gives it.
    options = (f"data.train_path={mood_reviews}", "model.init_from=run", "trainer.max_epochs=1")
    train(tmp_path, "child", *options, "optimizer.lr=1e-9")
    best = load_model(tmp_path / "run").model.state_dict()
    child = load_model(tmp_path / "child").model.state_dict()
    for name in ("embedding.weight", *(n for n in best if n.startswith("recurrent."))):
        torch.testing.assert_close(child[name], best[name], rtol=0, atol=1e-5)
    assert not torch.allclose(child["linear.weight"], best["linear.weight"], atol=1e-2)
