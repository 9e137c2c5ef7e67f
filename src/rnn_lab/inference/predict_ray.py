"""engine=ray: label files with the workers of a Ray cluster.

Ray Data gives each worker the next file, or the next share of the rows of one file, and starts
another worker in place of one that died. A worker loads the model once, and writes its outputs as
predict without Ray does: under a temporary name, with a record. So a share that Ray hands out again
has one output, and a repeated command continues.
"""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnn_lab.errors import ConfigError, UserError
from rnn_lab.inference.config import PredictOptions
from rnn_lab.inference.predict_files import Labeller, PartResult, locked_shard, report
from rnn_lab.inference.predict_plan import WHOLE, Part, Plan
from rnn_lab.inference.run_loader import LazyRun
from rnn_lab.io.atomic import check_writable
from rnn_lab.paths import local_path, project_root
from rnn_lab.plugins import load_plugins, require_extra
from rnn_lab.runs.jobs import list_runs

_PARTS = 4  # shares of the rows of one file, for each worker: the last ones end at about one time
_BLOCKS = 16  # of files handed out at once, for each worker


def predict_on_ray(options: PredictOptions) -> None:
    """Label the files of `options.input` on the cluster that RAY_ADDRESS names, or on this machine.

    All machines need the files, the run and the output folder under the same paths.

    Raises:
        UserError: the options, the run or the output folder cannot be used, or a file failed.
    """
    require_extra("ray", "engine=ray")
    options = _with_absolute_paths(options)
    Labeller(LazyRun(options)).check_run()
    Plan.of(options, 1)
    check_writable(Path(options.output), "output")
    import ray

    _start(ray)
    try:
        workers = options.num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        plan = Plan.of(options, workers * _PARTS)
        print(f"workers: {workers}, machines: {len(ray.nodes())}", file=sys.stderr)
        with locked_shard(plan, options, WHOLE):
            report(_label(ray, options, plan, workers))
    finally:
        ray.shutdown()


def _label(ray: Any, options: PredictOptions, plan: Plan, workers: int) -> Iterator[PartResult]:
    """Yield the result of every part."""
    order = sorted(range(len(plan.parts)), key=lambda i: -plan.parts[i].file.size)
    blocks = min(len(order), workers * _BLOCKS)
    # Ray takes neighbours for one block: each gets large and small files.
    order = [index for first in range(blocks) for index in order[first::blocks]]
    items = [{"part": index} for index in order]
    labelled = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
        RayLabeller,
        fn_constructor_args=(options.model_dump(), plan.parts),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(order))),
        num_cpus=1,
        num_gpus=1 if options.device == "cuda" else None,
    )
    try:
        for row in labelled.iter_rows():
            part = plan.parts[row["part"]]
            if row["status"] == "fatal":
                raise ConfigError(row["error"])
            yield PartResult(part, row["status"], row["error"])
    except ray.exceptions.RayError as error:
        raise ConfigError(f"engine=ray: {str(error).strip().splitlines()[-1]}") from error


class RayLabeller:
    """A worker: it loads the model once and labels one part at a time."""

    def __init__(self, options: dict[str, Any], parts: list[Part]) -> None:
        """Store what to label; the model is loaded at the first part that is not finished."""
        load_plugins(list(options["plugins"]))
        self._labeller = Labeller(LazyRun(PredictOptions.model_validate(options)))
        self._parts = parts

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Label the parts of a batch; return their results."""
        found: dict[str, list[Any]] = {"part": [], "status": [], "error": []}
        for index in batch["part"].tolist():
            try:
                result = self._labeller.label(self._parts[index])
                status, error = str(result.status), result.error
            except UserError as fatal:  # of the run, or the output folder: one of all parts
                status, error = "fatal", str(fatal)
            for name, value in (("part", index), ("status", status), ("error", error)):
                found[name].append(value)
        return found


def _with_absolute_paths(options: PredictOptions) -> PredictOptions:
    """Return the options for processes in other folders."""

    def absolute(path: str) -> str:
        return path if path == "-" else os.path.abspath(local_path(path))  # noqa: PTH100

    paths = {
        "run": [absolute(run) for run in list_runs(options.run)],
        "output": absolute(options.output),
        "input": [absolute(path) for path in options.inputs],
    }
    return options.model_copy(update=paths)


def _start(ray: Any) -> None:
    """Connect to the cluster, or start Ray on this machine, without its statistics and web page."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    root = project_root()
    paths = [str(root / "src") if root else None, os.environ.get("PYTHONPATH"), str(Path.cwd())]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    ray.init(
        include_dashboard=False if "RAY_ADDRESS" not in os.environ else None,
        runtime_env={"env_vars": environment},
        logging_level="ERROR",
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its plan, and that there are no bars
