"""Kills train.py, starts it again until it ends, and compares what it leaves, bit for bit.

Each start is a process of its own, forked from one that has only imported: so a dozen of them take
seconds. Run as a program it prints what it found as JSON:

    python -m tests.training.killing <folder> <plan: JSON, or a .json file of one or a list of them>

A plan is {"arguments": [...], "runs": {name: [kill, ...]}, "random_kills": number, "seed": number},
with "signals": [names] for those at random.
A kill is an aim, see tests.training.aims, or {"after": seconds, "signal": name}: SIGKILL where it
names none. Of an argument, `{run}` becomes the name of the run; a cache named so is cold. With
"archive" in it, data=imdb downloads a small archive from a slow server.

The 50 kills at random moments, of ten kinds of run:

    python -m tests.training.killing <folder> tests/training/fifty_kills.json

SIGTERM and Ctrl-C at random moments, of runs of one process and then of two:

    python -m tests.training.killing <folder> tests/training/signals.json
"""

import csv
import itertools
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

from tests.cli.forked import fork, import_all, status_of
from tests.training.aims import SIGNALLED, arm
from tests.training.archive import Server, is_the_archive, write_archive

PLACES = ("hydra.run.dir", "data.cache_dir", "data.root", "data.url")
TIMING = {"train/examples_per_second"}


def start(arguments: list[str], cwd: Path, before: Callable[[], None] | None = None) -> int:
    """Open train.py in a forked process; `before` is called there first. Returns its id."""
    log = cwd / "log"
    return fork("train.py", arguments, cwd=cwd, out=log, err=log, before=before)


def end_of(pid: int) -> int:
    """The exit status of a started process, negative for the signal that killed it."""
    status = status_of(pid, wait=True)
    assert status is not None
    return status


def signal_after(seconds: float, pid: int, signum: int) -> int:
    """Send a started process the signal at that moment, where it has not ended before.

    Returns its exit status.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (status := status_of(pid)) is not None:
            return status
        time.sleep(0.002)
    os.kill(pid, signum)
    return end_of(pid)


def leavings(run: Path) -> dict[str, Any]:
    """All that a finished run leaves which must not differ, but for what is timing."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [{n: c for n, c in row.items() if n not in TIMING} for row in csv.DictReader(file)]
    result = json.loads((run / "result.json").read_text())
    del result["timing"], result["git_commit"]  # the latter by who works on the project meanwhile
    for name in ("cache_dir", "root", "url"):
        result["data"]["options"].pop(name, None)
    result["overrides"] = [o for o in result["overrides"] if not o.startswith(PLACES)]
    left: dict[str, Any] = {"metrics.csv": rows, "result.json": result}
    for name in ("predictions.csv", "gradient_flow.csv"):  # not every run has them
        left[name] = (run / name).read_text() if (run / name).exists() else None
    for name in ("best.ckpt", "last.ckpt"):
        content = torch.load(run / "checkpoints" / name, weights_only=True)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            left[f"{name} {part}"] = content[part]
        left[f"{name} metrics"] = content["callbacks"]["ValidationHistory"]
        if name == "last.ckpt":
            left["examples"] = content["callbacks"]["Throughput"]["examples"]
            left["random numbers"] = content["resume"]["ranks"]
    left["files"] = sorted(
        str(path.relative_to(run)) for path in run.rglob("*") if "wandb" not in path.parts
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


class Plan:
    """One kind of run, undisturbed and killed."""

    def __init__(self, cwd: Path, plan: dict[str, Any]) -> None:
        cwd.mkdir(parents=True, exist_ok=True)
        self.cwd, self.plan = cwd, plan
        self.rng = random.Random(plan.get("seed", 0))
        self.arguments = list(plan["arguments"])
        self.pretend: list[Callable[[], None]] = []
        self.stops: list[float] = []  # seconds from a signal that can be heard to the end
        self.server: Server | None = None
        if plan.get("archive"):
            md5 = write_archive(cwd / "archive")
            self.server = Server(cwd / "archive", cwd / "asked")
            self.pretend.append(is_the_archive(md5))
            self.arguments.append(f"data.url={self.server.url}")

    def carry_out(self) -> dict[str, dict[str, Any]]:
        """Return the exit statuses and differences of every disturbed run, by its name."""
        try:
            began = time.monotonic()
            assert end_of(self.start("whole")) == 0, (self.cwd / "log").read_text()
            seconds = time.monotonic() - began
            runs = {name: self.kill(name, kills) for name, kills in self.plan["runs"].items()}
            runs |= self.kill_at_random(seconds)
        finally:
            if self.server is not None:
                os.kill(self.server.pid, signal.SIGKILL)
                end_of(self.server.pid)
        expected = leavings(self.cwd / "whole")
        return {
            name: {
                "statuses": statuses,
                "differences": list(differences(expected, leavings(self.cwd / name)))
                if statuses[-1] == 0
                else ["did not end"],
            }
            for name, statuses in runs.items()
        }

    def start(self, name: str, aim: dict[str, Any] | None = None) -> int:
        """Start the run in the folder `name`; returns the process's id."""
        line = [argument.replace("{run}", name) for argument in self.arguments]

        def before() -> None:
            for pretend in self.pretend:
                pretend()
            if aim is not None:
                arm(aim)

        return start([*line, f"hydra.run.dir={name}"], self.cwd, before)

    def kill(self, name: str, kills: list[dict[str, Any]]) -> list[int]:
        """Kill a run by each of `kills`, then let it end. Returns each process's exit status."""
        statuses = []
        for kill in kills:
            if "call" in kill:
                statuses.append(end_of(self.start(name, kill)))
                sent = float((self.cwd / SIGNALLED).read_text())
            else:
                signum = getattr(signal, kill.get("signal", "SIGKILL"))
                sent = time.monotonic() + kill["after"]
                statuses.append(signal_after(kill["after"], self.start(name), signum))
            if statuses[-1] > 0:
                self.stops.append(time.monotonic() - sent)
            if statuses[-1] == 0:
                return statuses
            if (self.cwd / name / "result.json").exists():  # killed when it was complete
                return [*statuses, 0]
        return [*statuses, end_of(self.start(name))]

    def kill_at_random(self, seconds: float) -> dict[str, list[int]]:
        """Kill runs that take `seconds` at random moments, until as many as planned were killed."""
        wanted, killed, runs = self.plan.get("random_kills", 0), 0, {}
        for i in itertools.count():
            if killed >= wanted:
                break
            moments = [self.rng.uniform(0.02, 1.0) * seconds for _ in range(self.rng.randint(1, 3))]
            kills = [{"after": at} | self.random_signal() for at in moments]
            began = time.monotonic()
            runs[f"random{i}"] = self.kill(f"random{i}", kills)
            if runs[f"random{i}"] == [0]:  # it was done before: the machine has become faster
                seconds = min(seconds, time.monotonic() - began)
            killed += num_kills(runs[f"random{i}"])
        return runs

    def random_signal(self) -> dict[str, str]:
        """One of the plan's "signals" for a kill at random; SIGKILL where it names none."""
        signals = self.plan.get("signals")
        return {"signal": self.rng.choice(signals)} if signals else {}


def num_kills(statuses: list[int]) -> int:
    """How many processes of a run were ended by a signal, as their exit statuses tell."""
    return sum(status < 0 or status > 128 for status in statuses)


def main() -> None:
    """Carry out one plan, or several, and print its result."""
    cwd, given = Path(sys.argv[1]).absolute(), sys.argv[2]
    plans = json.loads(Path(given).read_text() if given.endswith(".json") else given)
    import_all()  # every start finds it imported
    if isinstance(plans, dict):
        plan = Plan(cwd, {"runs": {}} | plans)
        print(json.dumps({"runs": plan.carry_out(), "stops": plan.stops}))
        return
    runs = kills = unequal = 0
    slowest = 0.0
    for number, one in enumerate(plans):
        plan = Plan(cwd / str(number), {"runs": {}, "seed": number} | one)
        found = plan.carry_out()
        bad = {name: run for name, run in found.items() if run["differences"]}
        killed = sum(num_kills(run["statuses"]) for run in found.values())
        print(f"{len(found)} runs, {killed} kills: {' '.join(one['arguments'])}", bad or "")
        runs, kills, unequal = runs + len(found), kills + killed, unequal + len(bad)
        slowest = max([slowest, *plan.stops])
    report = {"runs": runs, "kills": kills, "runs that differ": unequal}
    print(json.dumps(report | {"slowest to end after a signal it can hear [s]": round(slowest, 2)}))


if __name__ == "__main__":
    main()
