"""train.py, opened as a user opens it."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.datamodule import TextDataModule
from tests.cli.forked import run_warm_command
from tests.cli.runner import PROJECT, command_environment, inspect_wandb, run_command
from tests.data.torchtext_answers import INSTALLED

SMOKE = "experiment=smoke"
NO_IMDB = ("data.root=nowhere", "data.url=http://127.0.0.1:9/aclImdb_v1.tar.gz")


def run_folders(cwd: Path) -> list[Path]:
    return sorted(path.parent for path in cwd.glob("runs/**/result.json"))


def read_result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_help_is_written_for_people(tmp_path):
    done = run_warm_command("train.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for line in (
        "data: auto, demo, files, imdb, long_range",
        "model: gru, lstm, mingru, minlstm, peephole_lstm, rnn",
        "logger: csv, none, tensorboard, wandb",
        "trainer: auto, cpu, ddp, ddp_cpu, gpu, mps",
    ):
        assert line in done.stdout
    assert sum(line.startswith("python train.py") for line in done.stdout.splitlines()) == 10


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("model=grru", "model=grru: no such choice. Did you mean gru?"),
        ("trainer.devices=900", "trainer.devices=900: this machine has"),
        ("trainer.precision=fp8", "Choose from: auto, 32-true, bf16-mixed, 16-mixed"),
        ("model=gru,lstm", "model=gru,lstm"),
        ("data=files", "data.train_path"),
    ],
)
def test_a_mistake_is_one_line_before_any_data_is_read(tmp_path, argument, said):
    done = run_warm_command("train.py", argument, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


# train.py as it is run, and then which of the modules that take seconds to load it has loaded.
LOADED = """
import atexit, runpy, sys
sys.argv[0] = sys.argv.pop(1)
atexit.register(lambda: print("loaded:", *{"torch", "lightning"} & {*sys.modules}))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    "options",
    [
        ("model.hidden_size=-1",),
        ("data.unlabelled=more.txt", "loss.entropy=1", "train=false", "test=false"),
    ],
)
def test_options_are_checked_before_torch_is_imported(tmp_path, options):
    """In a process that starts, in which a mistake is one line too."""
    program = (sys.executable, "-c", LOADED, str(PROJECT / "train.py"))
    done = subprocess.run(
        [*program, *options],
        cwd=tmp_path,
        env=command_environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "loaded:\n")
    (line,) = done.stderr.splitlines()
    assert options[-1] in line
    assert not (tmp_path / "data").exists()


def test_the_tutorial_gives_the_ids_of_our_own_pipeline(tmp_path):
    """By torchtext itself where it is installed: then basic_english must agree with it."""
    tokenizer = "torchtext" if INSTALLED else "basic_english"
    done = run_warm_command(
        "train.py",
        *("experiment=tutorial", f"data.tokenizer={tokenizer}", "data=demo", "data.num_train=40"),
        *("data.num_test=20", "model.hidden_size=16", "trainer.max_epochs=1", "logger=none"),
        *("trainer=cpu", "hydra.run.dir=run", "plots=false"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "run")
    assert result["data"]["options"]["tokenizer"] == tokenizer
    options = result["data"]["options"] | {
        "tokenizer": "basic_english",
        "cache_dir": str(tmp_path / "c"),
    }
    ours = TextDataModule(DemoConfig(**options))
    ours.setup()
    assert result["data"]["vocabulary_fingerprint"] == ours.text_encoder.fingerprint
    assert ("torchtext" in result["versions"]) is INSTALLED


@pytest.mark.parametrize("fault", ["OSError('undefined symbol')", *([] if INSTALLED else [None])])
def test_torchtext_where_it_does_not_load_is_one_line(tmp_path, fault):
    """It is not there, or is there beside another torch, where its library lacks symbols."""
    if fault is not None:
        (tmp_path / "torchtext").mkdir()
        (tmp_path / "torchtext" / "__init__.py").write_text(f"raise {fault}")
    script = ("train.py", "experiment=tutorial", "data.tokenizer=torchtext")
    run = run_warm_command if fault is None else run_command
    done = run(*script, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: data.tokenizer=torchtext: torchtext loads only with torch 2.3")
    assert "pip install -r requirements-torchtext.txt" in line
    assert "data.tokenizer=basic_english" in line
    assert not (tmp_path / "data").exists()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Four runs of one process, each with a W&B run of its own, without plots."""
    cwd = tmp_path_factory.mktemp("sweep")
    done = run_warm_command(
        *("train.py", "-m", "model=lstm,gru", "seed=1,2", SMOKE, "logger=wandb", "sweep=mine"),
        "plots=false",
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return cwd, done


def test_a_sweep_of_four_gives_four_folders(sweep):
    cwd, _ = sweep
    results = [read_result(folder) for folder in run_folders(cwd)]
    assert len(results) == 4
    assert {(result["model"]["name"], result["seed"]) for result in results} == {
        (model, seed) for model in ("lstm", "gru") for seed in (1, 2)
    }


def test_a_run_folder_holds_the_whole_run(sweep):
    cwd, _ = sweep
    for folder in run_folders(cwd):
        for name in (
            ".hydra/config.yaml",
            "checkpoints/best.ckpt",
            "checkpoints/last.ckpt",
            "metrics.csv",
            "predictions.csv",
            "per_class.csv",
            "top_losses.csv",
            "train_hashes.npy",
        ):
            assert (folder / name).stat().st_size > 0, name
        result = read_result(folder)
        for split in ("val", "test"):
            for figure in ("accuracy", "f1", "auroc", "loss", "calibration_error"):
                assert isinstance(result[f"{split}/{figure}"], float)
        assert result["synthetic"] is True
        assert result["data"]["num_examples"] == {"train": 360, "validation": 40, "test": 100}
        for counts in result["data"]["duplicates"].values():
            assert counts["test_in_train"] == {"examples": 0, "label_conflicts": 0}
        assert "Duplicates of training examples" in (folder / "train.log").read_text()
        assert result["timing"]["train_examples_per_s"] > 0
        assert result["timing"]["peak_memory_bytes"] > 50e6


def test_result_agrees_with_the_predictions_beside_it(sweep):
    cwd, _ = sweep
    for folder in run_folders(cwd):
        result = read_result(folder)
        with (folder / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        right = sum(row["label"] == row["prediction"] for row in rows)
        assert right / len(rows) == pytest.approx(result["test/accuracy"], abs=1e-6)
        loss = sum(float(row["loss"]) for row in rows) / len(rows)
        assert loss == pytest.approx(result["test/loss"], abs=1e-5)


def test_every_run_has_a_wandb_run_of_its_own_that_reads_back(sweep):
    cwd, done = sweep
    assert "wandb sync" in done.stdout and "wandb leet" in done.stdout
    names = set()
    for folder in run_folders(cwd):
        (offline,) = (folder / "wandb").glob("offline-run-*")
        summary = inspect_wandb(offline, "--summary")
        result = read_result(folder)
        assert result["run_name"] in summary
        names.add(result["run_name"])
        for key in (
            "val/accuracy",
            "train/loss",
            "lr",
            "grad_norm",
            "train/examples_per_second",
            "test/confusion_matrix",
            "test/roc",
            "test/precision_recall",
            "test/per_class",
            "test/top_losses",
            "hidden_size",
        ):
            assert f'"{key}' in summary, key
        options = json.loads(summary)["config"]["trainer"]
        for name in ("accelerator", "devices", "precision"):
            assert options[name] == result["trainer"][name] != "auto"
        records = [json.loads(line) for line in inspect_wandb(offline).splitlines()]
        artifacts = [record["artifact"] for record in records if record["type"] == "artifact"]
        (model,) = [artifact for artifact in artifacts if artifact["type"] == "model"]
        assert "best" in model["aliases"]
    assert len(names) == 4


def offline_run(folder: Path) -> tuple[dict, list[dict]]:
    """What W&B reads in the one offline run in `folder`: its summary, and all of its records."""
    (offline,) = (folder / "wandb").glob("offline-run-*")
    records = [json.loads(line) for line in inspect_wandb(offline).splitlines()]
    return json.loads(inspect_wandb(offline, "--summary")), records


def records_of(kind: str, records: list[dict]) -> list[dict]:
    return [record[kind] for record in records if record["type"] == kind]


def test_a_sweep_is_one_group_in_wandb_with_a_summary(sweep):
    cwd, _ = sweep
    folders = run_folders(cwd)
    group = folders[0].parent
    summary, records = offline_run(group)
    (run,) = records_of("run", records)
    assert run["run_group"] == group.name
    assert run["job_type"] == "sweep-summary"
    assert summary["summary"]["jobs/finished"] == 4
    (table,) = group.glob("wandb/offline-run-*/files/media/table/sweep/runs_*.table.json")
    assert len(json.loads(table.read_text())["data"]) == 4

    validation = {folder.name: read_result(folder)["val/accuracy"] for folder in folders}
    best = summary["summary"]["best/folder"]
    assert validation[best] == max(validation.values())
    artifacts = [
        artifact for artifact in records_of("artifact", records) if artifact["type"] == "model"
    ]
    (file,) = artifacts[0]["manifest"]["contents"]
    assert len(artifacts) == 1 and file["path"] == "best.ckpt"
    assert Path(file["local_path"]) == group / best / "checkpoints" / "best.ckpt"

    job, records = offline_run(folders[0])
    assert records_of("run", records)[0]["run_group"] == group.name
    result = read_result(folders[0])
    assert job["config"]["search"] == {"model": result["model"]["name"], "seed": result["seed"]}


def test_the_summary_of_a_sweep_that_grew_stays_one(sweep, tmp_path):
    cwd = shutil.copytree(sweep[0], tmp_path / "cwd")
    before, _ = offline_run(cwd / "runs" / "mine")
    importances = {"val/accuracy": {"optimizer.lr": 0.75, "model": 0.25}}
    (cwd / "runs" / "mine" / "importances.json").write_text(json.dumps(importances))
    line = ("-m", "model=gru", "seed=1", SMOKE, "logger=wandb", "sweep=mine", "plots=false")
    again = run_warm_command("train.py", *line, "optimizer.lr=0.002512,0.004", cwd=cwd)
    assert again.returncode == 0, again.stderr
    after, _ = offline_run(cwd / "runs" / "mine")
    assert after["run_id"] == before["run_id"]
    assert (before["summary"]["jobs/finished"], after["summary"]["jobs/finished"]) == (4, 5)
    media = next(cwd.glob("runs/mine/wandb/offline-run-*/files/media/table"))
    (bars,) = media.glob("importances/**/*.table.json")
    assert json.loads(bars.read_text())["data"] == [["optimizer.lr", 0.75], ["model", 0.25]]
    names = {offline_run(folder)[0]["name"] for folder in run_folders(cwd)}
    assert names == {
        *(f"{model}-demo-seed{seed}" for model in ("lstm", "gru") for seed in (1, 2)),
        "gru-demo-seed1 lr=0.00251",
    }


def test_the_same_seed_gives_the_same_run_bit_for_bit(sweep, tmp_path):
    cwd, _ = sweep
    first = next(folder for folder in run_folders(cwd) if folder.name.startswith("gru_seed2_"))
    line = ("model=gru", "seed=2", SMOKE, "logger=csv", "plots=false")
    done = run_warm_command("train.py", *line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (second,) = run_folders(tmp_path)
    weights = [
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in (first, second)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    results = [read_result(folder) for folder in (first, second)]
    for result in results:
        for what_the_command_line_changed in ("timing", "overrides"):
            del result[what_the_command_line_changed]
    assert results[0] == results[1]
    assert (first / "predictions.csv").read_bytes() == (second / "predictions.csv").read_bytes()


def test_without_imdb_a_single_run_says_that_it_takes_the_demo_reviews(tmp_path):
    small = ("trainer.limit_train_batches=3", "trainer.max_epochs=1", "logger=csv", "plots=false")
    small += ("model.hidden_size=4", "model.embedding_dim=4")
    done = run_warm_command("train.py", "model=gru", *NO_IMDB, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "DEMO REVIEWS, NOT IMDB" in done.stdout
    (folder,) = run_folders(tmp_path)
    result = read_result(folder)
    assert result["demo_fallback"] and result["synthetic"]
    assert "demo" in result["run_name"]
    assert {"synthetic", "fallback-to-demo"} <= set(result["tags"])


@pytest.mark.parametrize("arguments", [("data=imdb",), ("-m", "seed=1")])
def test_without_imdb_nothing_else_falls_back(tmp_path, arguments):
    done = run_warm_command("train.py", *arguments, *NO_IMDB, "logger=csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "data=demo" in done.stderr and "aclImdb_v1.tar.gz" in done.stderr
    assert "Traceback" not in done.stderr
    assert run_folders(tmp_path) == []


def test_the_users_own_texts(tmp_path):
    rows = ["text,mood"] + [
        f"{word} {i} {word},{mood}"
        for i in range(24)
        for word, mood in (("lovely", "glad"), ("awful", "cross"), ("plain", "calm"))
    ]
    rows.insert(2, ",glad")
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    done = run_warm_command(
        "train.py",
        "model=lstm",
        "data=files",
        "data.train_path=mine.csv",
        "data.label_column=mood",
        "data.on_bad_lines=skip",
        "data.batch_size=8",
        "data.class_weights=[1,1,2]",
        "model.hidden_size=16",
        "optimizer.lr=0.01",
        *("logger=none", "plots=false"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(tmp_path)
    result = read_result(folder)
    assert result["data"]["class_names"] == ["calm", "cross", "glad"]
    assert result["test/accuracy"] == 1.0
    assert result["data"]["num_skipped"] == 1
    assert (folder / "skipped_rows.txt").read_text() == "mine.csv:3: empty text\n"
    # What was chosen for so few texts is printed and recorded, and an option given is kept.
    options = {group: result[group] for group in ("model", "trainer")}
    options["data"] = result["data"]["options"]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("Chosen for"))
    for option in line.partition(": ")[2].split():
        group, _, rest = option.partition(".")
        name, _, value = rest.partition("=")
        assert str(options[group][name]).lower() == value
    assert "data.batch_size" not in line
    assert options["data"]["batch_size"] == 8
    assert options["data"]["class_weights"] == [1, 1, 2]
    assert result["monitored_metric"] == options["trainer"]["monitor"] == "val/accuracy"
    assert result["per_class"]["glad"]["f1"] == 1.0
    assert "auto" not in [*options["model"].values(), options["trainer"]["max_epochs"]]
    # The words alone tell the classes: TF-IDF is right too, and beside the network in the table.
    assert result["baseline"]["tfidf"]["test/accuracy"] == 1.0
    assert result["baseline"]["majority"]["test/accuracy"] == pytest.approx(1 / 3, abs=0.02)
    assert "TF-IDF with logistic regression, test: accuracy 100.00 %" in done.stdout
    assert "Reviews that" not in done.stderr  # there are none to warn of


def test_a_finished_run_is_not_written_over(sweep):
    cwd, _ = sweep
    folder = run_folders(cwd)[0]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run_warm_command("train.py", SMOKE, "seed=9", f"hydra.run.dir={folder}", cwd=cwd)
    assert done.returncode == 1
    assert "finished run" in done.stderr
    del before[folder / "job.lock"]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("recipes", "starts_from"),
    [
        (["imdb_fast"], None),
        (["imdb_supervised"], "vectors"),
        (["imdb_lm", "imdb_pretrained"], "init_from"),
    ],
)
def test_recipes_of_imdb_train_on_demo_reviews(recipes, starts_from, tmp_path):
    reviews = (f"a superb film number {n}\na dreadful film number {n}\n" for n in range(60))
    (tmp_path / "more.txt").write_text("".join(reviews))
    for recipe in recipes:
        folder, own = "run", []
        if recipe == "imdb_lm":
            folder, own = "runs/lm", ["data.unlabelled=more.txt"]
        done = run_warm_command(
            *("train.py", f"experiment={recipe}", "data=demo", "data.num_train=40"),
            *("data.num_test=20", "model.embedding_dim=16", "model.hidden_size=8"),
            *("logger=none", "trainer.max_epochs=1", "plots=false", f"hydra.run.dir={folder}"),
            *own,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "run")
    assert result["data"]["options"]["source"] == "demo"
    assert {"vectors", "init_from"} & result.keys() == ({starts_from} if starts_from else set())
