"""Every benchmark runs from the command line on little work; its numbers mean nothing here."""

from pathlib import Path

import pytest

from tests.cli.forked import run_warm_command

FEW = ("data=demo", "data.num_train=200", "data.num_test=40", "model.hidden_size=8", "plots=false")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder without IMDB, with one cache for all benchmarks."""
    return tmp_path_factory.mktemp("benchmarks")


@pytest.mark.slow
def test_throughput(workplace: Path) -> None:
    options = ("--quick", "--no-keras", "--no-compile", "--models", "gru", "--sizes", "8")
    options += ("--threads", "1", "--markdown", "speed.md")
    options += ("--results", "speed.json", "--picture", "speed.png")
    done = run_warm_command("benchmarks/throughput.py", *options, cwd=workplace, warm_children=True)
    assert done.returncode == 0, done.stderr
    assert "| gru   | 8/8" in done.stdout
    assert "synthetic demo corpus" in done.stdout
    assert "other processes used" in done.stdout
    assert "Left out: Keras (not installed, or --no-keras)." in done.stdout
    assert (workplace / "speed.md").read_text() == done.stdout
    picture = (workplace / "speed.png").read_bytes()
    again = ("--draw-only", "--results", "speed.json", "--picture", "again.png")
    done = run_warm_command("benchmarks/throughput.py", *again, cwd=workplace)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (workplace / "again.png").read_bytes() == picture


@pytest.mark.slow
def test_gpu_runs_on_a_cpu(workplace: Path) -> None:
    options = ("--device", "cpu", "--quick", "--markdown", "gpu.md")
    options += ("data=demo", "data.num_train=200", "data.num_test=40")
    done = run_warm_command("benchmarks/gpu.py", *options, cwd=workplace)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rates = [line.split("|")[3].strip() for line in lines if line.startswith("| gru   | 8/8 ")]
    assert rates == ["ours, float32", "ours, bfloat16", "textbook, packed", "textbook, padded"]
    assert sum("| yes   |" in line for line in lines) == 4  # equal in each direction and precision
    assert "nan" not in done.stdout
    assert any(line.startswith("| ours, bfloat16   | FusedRNN") for line in lines)
    assert (workplace / "gpu.md").read_text() == done.stdout


@pytest.mark.slow
def test_reset_gate(workplace: Path) -> None:
    options = ("--sizes", "8", "--batch-size", "2", "--steps", "5", "--rounds", "1")
    options += ("--seconds", "0", "--threads", "1", "--markdown", "reset.md")
    done = run_warm_command("benchmarks/reset_gate.py", *options, cwd=workplace)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|")[1:4] for line in done.stdout.splitlines()[-4:]]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["8/8", directions, precision]
        for directions in ("1", "2")
        for precision in ("float32", "bfloat16")
    ]
    assert (workplace / "reset.md").read_text() == done.stdout


@pytest.mark.slow
def test_embedding(workplace: Path) -> None:
    options = ("--vocab-sizes", "500", "--batches", "1", "--rounds", "1", "--seconds", "0")
    done = run_warm_command("benchmarks/embedding.py", *options, "--threads", "1", cwd=workplace)
    assert done.returncode == 0, done.stderr
    cells = [line.split("|")[2:4] for line in done.stdout.splitlines() if line.startswith("| 500")]
    embeddings = ["dense", "lazy", "torch.nn.Embedding", "torch.optim.SparseAdam"]
    names = [gradient.strip() for what, gradient in cells if "only" in what]
    assert names == embeddings
    names = [gradient.strip() for what, gradient in cells if what.strip() == "LSTM training step"]
    assert names == ["dense", "lazy"]


@pytest.mark.slow
def test_dropout_pooling(workplace: Path) -> None:
    options = ("--features", "8", "--batches", "1", "--rounds", "1", "--seconds", "0")
    done = run_warm_command(
        "benchmarks/dropout_pooling.py", *options, "--threads", "1", cwd=workplace
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:4] for line in done.stdout.splitlines()[-12:]]
    names = [[cell.strip() for cell in row] for row in rows]
    assert [row[2] for row in names] == ["float32"] * 6 + ["bfloat16"] * 6
    assert names[0][:2] == ["dropout", "8"]
    assert names[4][:2] == ["GRU, `model.pooling=max model.bidirectional=true`", "128"]


@pytest.mark.slow
def test_busy(workplace: Path) -> None:
    options = ("--models", "gru", "--batches", "1", "--rounds", "1", "--seconds", "0")
    options += ("--threads", "1")
    done = run_warm_command("benchmarks/busy.py", *options, cwd=workplace, warm_children=True)
    assert done.returncode == 0, done.stderr
    names = [
        line.split("|")[2].strip() for line in done.stdout.splitlines() if line.startswith("| gru")
    ]
    assert "ours, float32" in names and "torch, unpacked, 1 thread" in names


@pytest.mark.slow
def test_profile_step(workplace: Path) -> None:
    options = ("--models", "gru", "--sizes", "8", "--batches", "1", "--seconds", "0")
    done = run_warm_command("benchmarks/profile_step.py", *options, "--threads", "1", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "FusedRNN" in done.stdout
    assert "| gru   | 8    | 64 x 24 by 24 x 8" in done.stdout  # one thread takes the batch


@pytest.mark.slow
def test_predict(workplace: Path) -> None:
    options = ("--models", "lstm", "--reviews", "40", "--singles", "5", "--rounds", "1")
    done = run_warm_command("benchmarks/predict.py", *options, "--threads", "1", cwd=workplace)
    assert done.returncode == 0, done.stderr
    contenders = [line.split("|")[2].strip() for line in done.stdout.splitlines()[-4:]]
    peers = ["ours, float32", "torch, packed, our batches", "torch, packed, as they come"]
    assert [name for name in contenders if name in peers] == peers


@pytest.mark.slow
def test_serve(workplace: Path, mood_run: Path) -> None:
    options = (str(mood_run), "--seconds", "0.3", "--reviews", "20", "--threads", "1")
    done = run_warm_command("benchmarks/serve.py", *options, cwd=workplace, warm_children=True)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    loads = [row for row in rows if row and row[0].isdecimal()]
    assert [row[:2] for row in loads] == [["1", "1"], ["8", "1"], ["32", "1"], ["4", "32"]]
    assert all(row[6] == "0" and float(row[2].replace(",", "")) > 0 for row in loads)


@pytest.mark.slow
def test_time_to_accuracy(workplace: Path) -> None:
    options = ("--models", "gru", "--no-keras", "--threads", "1", "--accuracy", "0.01", *FEW)
    command = ("benchmarks/time_to_accuracy.py", *options)
    done = run_warm_command(*command, cwd=workplace, warm_children=True)
    assert done.returncode == 0, done.stderr
    ours, packed = done.stdout.splitlines()[-2:]
    assert "| 1 %" in ours
    assert "not in" not in ours + packed


@pytest.mark.slow
def test_learning_curve(workplace: Path) -> None:
    given = ("--sizes", "60", "20", "--seeds", "1", "2", "--experiments", "smoke", "--threads", "1")
    given += ("--override", "model.embedding_dim=8", "model.hidden_size=4", "trainer.max_epochs=1")
    given += ("data.vectors_epochs=1",)
    small = given[given.index("--override") + 1 :]
    given += ("--results", "curve.json", "--markdown", "curve.md", "--picture", "curve.png")
    language_model = ("data=demo", "objective=language_model", "hydra.run.dir=lm", *small)
    done = run_warm_command("train.py", *language_model, "logger=none", cwd=workplace)
    assert done.returncode == 0, done.stderr
    given += ("--language-model", "lm")
    command = ("benchmarks/learning_curve.py", *given)
    some = ("--methods", "tfidf", "gru_skipgram")
    done = run_warm_command(*command, *some, cwd=workplace, warm_children=True)
    assert done.returncode == 0, done.stderr
    assert "[16/16] gru_pretrained, 60 reviews, seed 2" in done.stderr
    header, *rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in header.split("|")[1:-1]] == ["method", "20", "60"]
    assert [row.split("|")[1].strip() for row in rows[1:]] == [
        *("TF-IDF with logistic regression", "GRU, skip-gram vectors", "smoke"),
        "GRU, from a language model",
    ]
    assert all(row.count("±") == 2 for row in rows[1:])
    assert (workplace / "curve.md").read_text() == done.stdout
    assert not list((workplace / "data/cache/learning_curve/runs").iterdir())
    # Nothing is measured twice; both baselines were measured at once.
    picture, results = (
        (workplace / "curve.png").read_bytes(),
        (workplace / "curve.json").read_text(),
    )
    again = run_warm_command(*command, *some, cwd=workplace)
    assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr
    assert "[" not in again.stderr
    assert (workplace / "curve.json").read_text() == results
    drawn = run_warm_command(*command, "--draw-only", cwd=workplace)
    assert drawn.returncode == 0 and "| NB-SVM " in drawn.stdout, drawn.stderr
    assert (workplace / "curve.png").read_bytes() != picture  # one line more


@pytest.mark.slow
def test_ablation(workplace: Path) -> None:
    changes = ("`model=lstm`", "without averaged weights: `trainer.ema_decay=null`")
    command = (
        "benchmarks/ablation.py",
        "--changes",
        *changes,
        "--seeds",
        "1",
        "2",
        "--threads",
        "1",
    )
    command += ("--override", "data=demo", "data.num_train=60", "data.num_test=20")
    command += ("model.embedding_dim=8", "model.hidden_size=4")
    done = run_warm_command(*command, cwd=workplace, warm_children=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    assert [row[0].strip() for row in rows[2:]] == ["the recipe", *changes]
    assert [row[2].count("±") for row in rows[2:]] == [0, 1, 1]
    assert "12 validation reviews" in done.stdout
    again = run_warm_command(*command, cwd=workplace)  # nothing is trained again
    assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr
    assert "..." not in again.stderr


@pytest.mark.slow
def test_scaling(workplace: Path) -> None:
    options = ("--copies", "1", "2", "--reviews", "400", "--steps", "3", "--rounds", "1")
    options += ("--threads", "1", "model.hidden_size=8", "baseline=none", "plots=false")
    done = run_warm_command("benchmarks/scaling.py", *options, cwd=workplace, warm_children=True)
    assert done.returncode == 0, done.stderr
    assert "| 2      | 800 " in done.stdout
    assert "peak memory under 1.5 GiB" in done.stdout
