"""Kills train.py with SIGKILL, starts it again until it ends, and compares what it leaves.

Each start is a process of its own, forked from one that has only imported: so a dozen of them take
seconds. Run as a program it prints what it found as JSON:

    python -m tests.training.killing <folder> <plan as JSON>
"""

import csv
import importlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

TIMING = {"train/reviews_per_second"}


def start(arguments: list[str], cwd: Path, before: Callable[[], None] | None = None) -> int:
    """Open train.py in a forked process; `before` is called there first. Returns its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.chdir(cwd)
        log = os.open(cwd / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if before is not None:
            before()
        sys.argv = ["train.py", *arguments]
        import train

        train.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end_of(pid: int) -> int:
    """The exit status of a started process, negative for the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_after(seconds: float, pid: int) -> int:
    """Kill a started process at that moment, where it has not ended before. Returns its status."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return end_of(pid)


def die_at_call(module: Any, name: str, number: int) -> Callable[[], None]:
    """What makes a process kill itself at call `number`, from 1, of a function."""

    def arm() -> None:
        function, calls = getattr(module, name), iter(range(1, number + 1))

        def counted(*arguments: Any, **options: Any) -> Any:
            if next(calls, 0) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        setattr(module, name, counted)

    return arm


def leavings(run: Path) -> dict[str, Any]:
    """All that a finished run leaves which must not differ, but for what is timing."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [{n: c for n, c in row.items() if n not in TIMING} for row in csv.DictReader(file)]
    result = json.loads((run / "result.json").read_text())
    del result["timing"]
    result["overrides"] = [o for o in result["overrides"] if not o.startswith("hydra.run.dir")]
    left: dict[str, Any] = {
        "metrics.csv": rows,
        "result.json": result,
        "predictions.csv": (run / "predictions.csv").read_text(),
    }
    flow = run / "gradient_flow.csv"
    left["gradient_flow.csv"] = flow.read_text() if flow.exists() else None
    for name in ("best.ckpt", "last.ckpt"):
        content = torch.load(run / "checkpoints" / name, weights_only=True)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            left[f"{name} {part}"] = content[part]
        left[f"{name} figures"] = content["callbacks"]["ValidationFigures"]
        if name == "last.ckpt":
            left["reviews"] = content["callbacks"]["Throughput"]["reviews"]
            left["random numbers"] = content["resume"]["ranks"]
    left["files"] = sorted(
        str(path.relative_to(run)) for path in run.rglob("*") if "wandb" not in str(path)
    )
    return left


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """Where two things differ in a bit."""
    if isinstance(expected, torch.Tensor):
        if not isinstance(found, torch.Tensor) or not torch.equal(expected, found):
            yield where
    elif isinstance(expected, dict):
        if expected.keys() != found.keys():
            yield f"{where}: {sorted(map(str, expected.keys() ^ found.keys()))}"
        for key in expected.keys() & found.keys():
            yield from differences(expected[key], found[key], f"{where}/{key}")
    elif isinstance(expected, list | tuple):
        if len(expected) != len(found):
            yield f"{where}: {len(expected)} and {len(found)}"
        for i, (one, other) in enumerate(zip(expected, found, strict=False)):
            yield from differences(one, other, f"{where}/{i}")
    elif expected != found:
        yield f"{where}: {expected!r:.60} and {found!r:.60}"


def kill_and_resume(
    arguments: list[str], cwd: Path, name: str, kills: list[dict[str, Any]], seconds: float
) -> list[int]:
    """Start a run in the folder `name`, kill it by each of `kills`, then let it end.

    A kill is {"after": share of `seconds`} or {"call": [module, function, number]}. Returns the
    exit status of each process.
    """
    modules = {"os": os, "torch.Tensor": torch.Tensor}
    statuses = []
    line = [*arguments, f"hydra.run.dir={name}"]
    for kill in kills:
        if "call" in kill:
            module, function, number = kill["call"]
            before = die_at_call(modules[module], function, number)
            statuses.append(end_of(start(line, cwd, before)))
        else:
            statuses.append(kill_after(kill["after"] * seconds, start(line, cwd)))
        if statuses[-1] == 0:
            return statuses
    return [*statuses, end_of(start(line, cwd))]


def main() -> None:
    """Carry out a plan: {"arguments": [...], "runs": {name: [kill, ...]}, "random": number}."""
    cwd, plan = Path(sys.argv[1]), json.loads(sys.argv[2])
    for name in ("matplotlib.pyplot", "rich.table", "src.training.run"):
        importlib.import_module(name)  # every start finds them imported
    arguments = plan["arguments"]
    began = time.monotonic()
    undisturbed = start([*arguments, "hydra.run.dir=whole"], cwd)
    statuses = {
        name: kill_and_resume(arguments, cwd, name, kills, 0.0)
        for name, kills in plan.get("runs", {}).items()
    }
    assert end_of(undisturbed) == 0
    seconds = time.monotonic() - began
    rng = random.Random(plan.get("seed", 0))
    for i in range(plan.get("random", 0)):
        kills = [{"after": rng.uniform(0.05, 1.0)} for _ in range(rng.randint(1, 3))]
        statuses[f"random{i}"] = kill_and_resume(arguments, cwd, f"random{i}", kills, seconds)
    expected = leavings(cwd / "whole")
    found = {
        name: {
            "statuses": ended,
            "differences": list(differences(expected, leavings(cwd / name)))
            if ended[-1] == 0
            else ["did not end"],
        }
        for name, ended in statuses.items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
