"""The load of other processes is seen, that of one's own is not counted."""

import os
import subprocess
import sys
import time

import pytest

from benchmarks.load import CpuTimes, describe_load, read_cpu_times

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_own_time_includes_children_running_and_ended() -> None:
    def of_children() -> float:
        now = read_cpu_times()
        assert before and now
        return now.own - before.own - (time.process_time() - here)

    before, here = read_cpu_times(), time.process_time()
    limit = time.perf_counter() + 30
    child = subprocess.Popen([sys.executable, "-c", BURN + "\ninput()"], stdin=subprocess.PIPE)
    try:
        while (used := of_children()) < 0.25 and time.perf_counter() < limit:
            time.sleep(0.05)
        assert used >= 0.25
    finally:
        child.communicate(b"\n")
    assert of_children() >= 0.25


def test_a_process_that_is_no_descendant_counts_as_load() -> None:
    # A shell that ends at once leaves its burner to the first process.
    before = read_cpu_times()
    command = f'"{sys.executable}" -c "{BURN}" & echo $!'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    process = int(done.stdout)
    while True:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            break
        if time.perf_counter() - (before.clock if before else 0) > 30:
            break
        time.sleep(0.01)
    after = read_cpu_times()
    assert before and after
    others = after.others_since(before) * (after.clock - before.clock)  # seconds of a core
    assert others >= 0.2


def readings(*others: float) -> list[CpuTimes]:
    """Return readings every ten seconds between which others used so many cores."""
    found = [CpuTimes(0.0, 100.0, 50.0)]
    for cores in others:
        last = found[-1]
        found.append(CpuTimes(last.clock + 10, last.busy + 10 + 10 * cores, last.own + 10))
    return found


def test_a_machine_is_quiet_below_the_limits_only() -> None:
    assert describe_load(0.02, readings(0.05, 0.03), 0.0).startswith("Quiet")
    assert "**NOT QUIET**" in describe_load(0.2, readings(0.05, 0.03), 0.0)
    assert "**NOT QUIET**" in describe_load(0.0, readings(0.05, 0.03), 0.2)
    assert "**NOT QUIET**" in describe_load(0.0, readings(0.2, 0.2), 0.0)
    burst = describe_load(0.0, readings(*[0.0] * 20, 0.8), 0.0)
    assert "**NOT QUIET**" in burst
    assert "at most 0.80 in 10 seconds" in burst
    assert "unknown" in describe_load(None, [], None)
