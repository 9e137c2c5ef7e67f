"""Measure what other processes take of the machine while a benchmark runs (Linux)."""

import contextlib
import os
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

BEFORE_AND_AFTER_SECONDS = 3.0
WINDOW_SECONDS = 10.0
MOST_MEAN, MOST_IN_WINDOW = 0.1, 0.5  # cores; above either, the machine was not quiet
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class CpuTimes(NamedTuple):
    """Seconds of CPU time since boot, and where the clock was."""

    clock: float
    busy: float  # of all processes and of the host's other machines (steal)
    own: float  # of this process and its descendants

    def others_since(self, earlier: "CpuTimes") -> float:
        """Return the cores that others used in between, on average."""
        others = (self.busy - earlier.busy) - (self.own - earlier.own)
        return max(0.0, others / (self.clock - earlier.clock))


def read_cpu_times() -> CpuTimes | None:
    """Return the CPU times now; None where /proc has none."""
    try:
        clock = time.perf_counter()
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    except (OSError, ValueError):
        return None
    busy = user + nice + system + irq + softirq + steal
    return CpuTimes(clock, busy / _CLOCK_TICKS, _own_ticks() / _CLOCK_TICKS)


def _own_ticks() -> int:
    """Return the ticks of this process, its descendants, and those of them that have ended."""
    parents, ticks = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # it has just ended
            # The name, in parentheses, may contain spaces.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            ticks[int(folder.name)] = sum(map(int, fields[11:15]))  # utime stime cutime cstime
    own = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(ticks.get(process, 0) for process in own)


class LoadMeter:
    """Measures the load of other processes before, during and after a benchmark.

    During the benchmark a thread reads the CPU times every WINDOW_SECONDS.
    """

    def __init__(self, seconds: float = BEFORE_AND_AFTER_SECONDS) -> None:
        """Measure for `seconds` before the benchmark, and again after it."""
        self._seconds = seconds
        self._readings: list[CpuTimes] = []
        self._before = self._idle_load()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def finish(self) -> str:
        """Measure after the benchmark and return the report: one line."""
        self._stop.set()
        self._thread.join()
        return describe_load(self._before, self._readings, self._idle_load())

    def so_far(self) -> str:
        """Return the report of the time until now, without a measurement after it."""
        if reading := read_cpu_times():
            self._readings.append(reading)
        return describe_load(self._before, self._readings, self._before)

    def _idle_load(self) -> float | None:
        first = read_cpu_times()
        time.sleep(self._seconds)
        second = read_cpu_times()
        return second.others_since(first) if first and second else None

    def _watch(self) -> None:
        while True:
            if reading := read_cpu_times():
                self._readings.append(reading)
            if self._stop.is_set():
                return
            self._stop.wait(WINDOW_SECONDS)


def describe_load(before: float | None, readings: list[CpuTimes], after: float | None) -> str:
    """Return the loads and whether the machine was quiet, in one line."""
    if before is None or after is None or len(readings) < 2:
        return "**Load unknown**: this system does not report CPU times in /proc."
    during = readings[-1].others_since(readings[0])
    windows = [
        later.others_since(earlier)
        for earlier, later in pairwise(readings)
        # The last window may be too short for the clock of /proc, 10 ms.
        if later.clock - earlier.clock > WINDOW_SECONDS / 4
    ]
    most = max(windows, default=during)
    quiet = max(before, during, after) <= MOST_MEAN and most <= MOST_IN_WINDOW
    return (
        f"{'Quiet' if quiet else '**NOT QUIET**'}: other processes used {before:.2f} cores before, "
        f"{during:.2f} during and {after:.2f} after the measurement, at most {most:.2f} in "
        f"{WINDOW_SECONDS:g} seconds (limits: {MOST_MEAN} on average, {MOST_IN_WINDOW} in "
        f"{WINDOW_SECONDS:g} seconds)."
    )
