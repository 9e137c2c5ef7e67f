"""eval.py: test finished runs on their own test split or on other texts."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rnn_lab.data.batches import Batch
from rnn_lab.data.config import SHARED_OPTIONS, DataOptions, FilesConfig, TextOptions
from rnn_lab.data.datamodule import RunEncoding, TextDataModule
from rnn_lab.data.readers.config import read_options
from rnn_lab.data.readers.labels import LIST
from rnn_lab.data.readers.reading import ReadInfo
from rnn_lab.data.readers.records import RecordReader
from rnn_lab.data.sources.registry import SOURCES
from rnn_lab.errors import CheckpointError, ConfigError, DataError, sanitize
from rnn_lab.inference.config import EvaluateOptions
from rnn_lab.inference.ensemble import Ensemble
from rnn_lab.inference.load import LoadedModel, load_model
from rnn_lab.inference.lock_callbacks import lock_test_dir
from rnn_lab.models.averaging import mean_probabilities
from rnn_lab.models.evaluation import CalibratedMetrics, in_split_order, to_numbers
from rnn_lab.models.metrics import MetricFactory, build_metrics, metric_inputs
from rnn_lab.models.tasks import TASKS
from rnn_lab.paths import local_path
from rnn_lab.reports.plots import draw_plots
from rnn_lab.reports.run_summary import print_run
from rnn_lab.runs.jobs import list_runs
from rnn_lab.training.artifacts import (
    describe_calibration,
    describe_data,
    describe_thresholds,
    git_commit,
    versions,
    write_result,
)
from rnn_lab.training.data_report import print_source_info, write_skipped_rows
from rnn_lab.training.saved_network import needs_plugin
from rnn_lab.training.split_predictions import SplitPredictions
from rnn_lab.training.train_hashes import TRAIN_HASHES, all_train_hashes, count_trained_on
from rnn_lab.validation import AUTO, StrictConfig, metric_factories, validate

# Options of this machine, which are not taken from a checkpoint: it may be untrusted.
LOCAL_OPTIONS = {"url", "num_workers", "cache_dir"}


class TestResult(NamedTuple):
    """The metrics of a split, and the result of each of its texts, in the split's order."""

    metrics: dict[str, float]  # test/accuracy, test/f1, test/auroc, test/loss, ...
    probabilities: np.ndarray  # float32 [texts, classes]
    losses: np.ndarray  # float32 [texts], (binary) cross-entropy in nats
    uncalibrated: dict[str, float]  # test/loss and test/calibration_error without the temperature


def evaluate(options: dict[str, Any]) -> None:
    """Test a run or an ensemble; write the outputs to `output_dir` and print a table.

    Raises:
        UserError: an option, the run or the texts cannot be used.
    """
    checked = validate(EvaluateOptions, options)
    runs = [load_model(run, checked.device) for run in list_runs(checked.run)]
    model = runs[0] if len(runs) == 1 else Ensemble(runs)
    splits = [test_split(run, checked) for run in runs]
    data = splits[0]
    for run, other in zip(runs[1:], splits[1:], strict=True):
        _check_same_texts(runs[0], data, run, other, checked)
    print_source_info(data.corpus)
    metrics = metric_factories(checked.metrics, is_multilabel=model.is_multilabel)
    results = [
        test(run, split.test_dataloader(), metrics) for run, split in zip(runs, splits, strict=True)
    ]
    if isinstance(model, Ensemble):
        tested = combine_results(model, results, data.splits["test"].labels, metrics)
        about = describe_ensemble(model, runs, results)
    else:
        tested, about = results[0], describe_run(runs[0], results[0])
    folder = Path(checked.output_dir)
    lock = lock_test_dir(folder)
    try:
        hashes = all_train_hashes([run.path for run in runs])
        trained_on = None if hashes is None else count_trained_on(hashes, data.examples_of("test"))
        save_test_artifacts(folder, model, data, tested, about, trained_on, plots=checked.plots)
    finally:
        lock.release()
    if trained_on:
        print(
            f"{trained_on:,} of {len(data.splits['test']):,} texts are also among those that the "
            f"{'run was' if len(runs) == 1 else 'runs were'} trained on, word for word"
        )
    elif trained_on is None and checked.data is not None:
        print(
            "Cannot tell whether some of these texts were trained on: no "
            f"{TRAIN_HASHES} in a run folder around {runs[0].path}"
        )


def test_split(run: LoadedModel, options: EvaluateOptions) -> TextDataModule:
    """Return the texts to test a run on, encoded for it.

    Raises:
        DataError: they are the run's own test split, which has changed since its training.
    """
    data = TextDataModule(
        data_config(run, options),
        encoding=RunEncoding(run.text_encoder, run.class_names, run.task),
    )
    data.setup()
    if options.data is None and data.corpus.fingerprint != run.corpus_fingerprint:
        raise DataError(
            f"{run.path}: the texts have changed since its training, so its test split may contain "
            "texts that it was trained on; name the texts to test: data=files data.test_path=<path>"
        )
    return data


def _check_same_texts(
    run: LoadedModel,
    data: TextDataModule,
    other_run: LoadedModel,
    other: TextDataModule,
    options: EvaluateOptions,
) -> None:
    first, second = data.corpus.test, other.corpus.test
    assert first is not None and second is not None
    runs = f"{run.path} and {other_run.path}"
    if not np.array_equal(first.text_hashes, second.text_hashes):
        if options.data is not None:
            raise ConfigError(
                f"run: {runs} read different texts of the same file; give data.text_column=<name>"
            )
        raise ConfigError(
            f"run: {runs} have different test splits, so that one may have been trained on texts "
            "that test the other; name the texts to test: data=files data.test_path=<path>"
        )
    if not np.array_equal(data.splits["test"].labels, other.splits["test"].labels):
        raise ConfigError(
            f"run: the texts that test {runs} are the same, and their labels differ; name the "
            "texts to test: data=files data.test_path=<path>"
        )


def data_config(run: LoadedModel, options: EvaluateOptions) -> TextOptions:
    """Return the options of the run's own texts, or of `options.data`, batched as in the run.

    Raises:
        CheckpointError: the run's own texts need a plugin that is not loaded.
        ConfigError: an option of `options.data` is unknown or has an invalid value.
    """
    source = run.data_config.source
    if options.data is None and source not in SOURCES:
        plugin = needs_plugin(run.path, f"data.source={sanitize(source, 50)}")
        raise CheckpointError(
            f"{run.path}: its test split {plugin}, or name the texts to test: data=files "
            "data.test_path=<path>"
        )
    chosen = run.data_config.model_dump(exclude=LOCAL_OPTIONS) | {"cache_dir": options.cache_dir}
    if options.data is not None:
        chosen = {name: chosen[name] for name in chosen if name in SHARED_OPTIONS} | options.data
        if chosen["source"] == "files" and run.is_multilabel:
            chosen |= _label_options(run, chosen)
    if options.batch_size is not None:
        chosen["eval_batch_size"] = options.batch_size
    config = validate(_Data, {"data": chosen}).data
    if options.data is None or not isinstance(config, FilesConfig):
        return config
    if config.class_names not in (None, list(run.class_names)):
        raise ConfigError(
            f"data.class_names=[{','.join(config.class_names)}]: the classes are those of the run, "
            f"in its order: {', '.join(run.class_names)}; leave the option out"
        )
    config = config.model_copy(update={"class_names": list(run.class_names)})
    return config if run.read_info is None else _as_trained(config, run.read_info)


def _as_trained(config: FilesConfig, info: ReadInfo) -> FilesConfig:
    """Return the options with columns and encoding of the training texts, if the file has them."""
    paths = config.test_path
    path = paths[0] if isinstance(paths, list) and paths else paths
    if not isinstance(path, str) or not local_path(path).is_file():
        return config
    reader = RecordReader(
        local_path(path), read_options(config, prefix="data."), labelled=True, like=info
    )
    next(iter(reader), None)
    found, update = reader.info, dict[str, Any]()
    if found.columns is not None and info.columns is not None and info.columns.header:
        if config.text_column is None and found.columns.text == info.columns.text:
            update["text_column"] = list(info.columns.text)
        if config.label_column is None and found.columns.label == info.columns.label:
            update["label_column"] = info.columns.label
    if config.encoding == AUTO and found.encoding is not None and isinstance(paths, str):
        update["encoding"] = found.encoding
    return config.model_copy(update=update)


def _label_options(run: LoadedModel, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return where a text's labels are: as in the files of the run, unless `chosen` says it.

    Lists are of any number of labels, although each text of a test may have one.
    """
    names = ("label_column", "label_separator")
    if any(chosen.get(name) is not None for name in names):
        return {}
    found = {name: getattr(run.data_config, name, None) for name in names}
    is_known = any(value is not None for value in found.values())
    return found if is_known else {"label_separator": LIST}


class _Data(StrictConfig):
    data: DataOptions


def test(
    run: LoadedModel, batches: Iterable[Batch], metrics: Mapping[str, MetricFactory] | None = None
) -> TestResult:
    """Classify every batch; the metrics are those of train.py for the same batches.

    `metrics` are computed too; see `build_metrics`.
    """
    device = next(run.model.parameters()).device
    scores = CalibratedMetrics(len(run.class_names), run.task, metrics).to(device)
    results = []
    with torch.inference_mode():
        for on_host in batches:
            batch = Batch(*(part.to(device) for part in on_host))
            found = scores.update(run.model, run.model(batch.tokens, batch.lengths), batch)
            results.append({name: value.cpu().numpy() for name, value in found.items()})
    texts = in_split_order(results)
    return TestResult(
        to_numbers(scores.calibrated),
        texts["probabilities"],
        texts["loss"],
        to_numbers(scores.uncalibrated),
    )


def combine_results(
    model: Ensemble,
    results: Sequence[TestResult],
    labels: np.ndarray,
    metrics: Mapping[str, MetricFactory] | None = None,
) -> TestResult:
    """Return the result of an ensemble from those of its members.

    Args:
        model: the ensemble.
        results: of each member, on the same texts in the same order.
        labels: of these texts, int64 [texts], or 0 and 1 [texts, classes].
        metrics: further ones, as of `test`.
    """
    task = TASKS[model.task]
    probabilities = torch.from_numpy(mean_probabilities([one.probabilities for one in results]))
    targets = torch.from_numpy(np.asarray(labels, np.int64))
    losses = task.losses(task.logits(probabilities), targets)
    thresholds = None if model.thresholds is None else torch.from_numpy(model.thresholds)
    collection = build_metrics(len(model.class_names), "test/", metrics, model.task)
    collection.update(**metric_inputs(probabilities, targets, losses, thresholds))
    return TestResult(
        to_numbers(collection),
        probabilities.numpy(),
        losses.numpy(),
        {},
    )


def describe_run(run: LoadedModel, tested: TestResult) -> dict[str, Any]:
    """Return what result.json says of the run that was tested."""
    return {
        "checkpoint": str(run.path),
        "model": run.model_config.model_dump(),
        "calibration": describe_calibration(run.model, tested.uncalibrated),
    }


def describe_ensemble(
    model: Ensemble, runs: Sequence[LoadedModel], results: Sequence[TestResult]
) -> dict[str, Any]:
    """Return what result.json says of the runs whose mean was tested.

    `model` has the options that all have in common, and the name of each cell.
    """
    options = [run.model_config.model_dump() for run in runs]
    common = {
        name: value
        for name, value in options[0].items()
        if all(other.get(name) == value for other in options)
    }
    return {
        "checkpoint": None,
        "members": [
            {"checkpoint": str(run.path)} | result.metrics
            for run, result in zip(runs, results, strict=True)
        ],
        "model": common | {"name": model.cell},
    }


def save_test_artifacts(
    folder: Path,
    model: LoadedModel | Ensemble,
    data: TextDataModule,
    tested: TestResult,
    about: Mapping[str, Any],
    num_trained_on: int | None = None,
    *,
    plots: bool = True,
) -> None:
    """Write all outputs of a test, with or without plots, and print its table.

    `about` is that of `describe_run` or `describe_ensemble`.
    """
    examples, encoded = data.examples_of("test"), data.splits["test"]
    per_class = SplitPredictions(
        class_names=model.class_names,
        names=examples.names,
        texts=examples.texts,
        labels=encoded.labels,
        lengths=encoded.lengths,
        losses=tested.losses,
        probabilities=tested.probabilities,
        thresholds=model.thresholds,
    ).write(folder)
    write_skipped_rows(data.corpus, folder)
    result = {
        **about,
        "synthetic": data.corpus.synthetic,
        "seed": None,
        "best_epoch": None,
        "data": describe_data(data) | {"num_trained_on": num_trained_on},
        "versions": versions(),
        "git_commit": git_commit(),
        **describe_thresholds(model.class_names, model.thresholds),
        **tested.metrics,
        "per_class": per_class,
    }
    write_result(folder, result)
    if plots:
        draw_plots(folder)
    print_run(folder)
