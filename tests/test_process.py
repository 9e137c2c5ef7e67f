import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rnn_lab.process import cpu_quota, tune_malloc, tuned_torch
from tests.cli.forked import run_warm_command
from tests.cli.runner import PROJECT


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and glibc")
def test_freed_memory_is_kept():
    def page_faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            torch.ones(4_000_000)  # 16 MB: above any threshold that glibc sets by itself
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    tune_malloc()
    page_faults()
    # Each block is 3,900 pages of 4 kB; twenty fresh ones would fault on all of them.
    assert page_faults() < 4_000


def test_denormals_are_zero_in_every_thread(tmp_path):
    # In a process of its own: the setting would stay, and running threads do not get it.
    code = """
import torch
from rnn_lab.process import flush_denormals
flush_denormals()
torch.set_num_threads(2)
small = torch.full([1_000_000], 1e-30, requires_grad=True)
products = small * 1e-10
assert not products.any(), products
(products * 1e-20).sum().backward(torch.tensor(1e-10))
assert not small.grad.any(), small.grad
"""
    done = run_warm_command("tests/cli/run_code.py", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_peak_memory_is_in_bytes_and_excludes_the_parent_process():
    """The memory of the process that started it does not count."""
    program = """
from rnn_lab.process import peak_memory_bytes
before = peak_memory_bytes()
block = bytearray(100_000_000)
print(before, peak_memory_bytes())
"""
    size = 200_000_000
    held = bytearray(size)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    del held
    assert 5e6 < before < size
    assert after - before > 70e6


@pytest.mark.parametrize(
    ("memberships", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "max 100000\n"}, 0.5),
        ("0::/unseen\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {}, math.inf),
        (
            "5:memory:/x\n4:cpu,cpuacct:/docker/1\n0::/\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
    ],
)
def test_quota_of_a_container(memberships, files, cores, tmp_path):
    (tmp_path / "memberships").write_text(memberships)
    for name, content in files.items():
        file = tmp_path / "root" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    assert cpu_quota(tmp_path / "memberships", tmp_path / "root") == cores


@pytest.mark.parametrize(
    ("given", "policy"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "9"}, None)],
)
def test_threads_sleep_while_they_wait_unless_told_otherwise(given, policy, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with tuned_torch():
        assert os.environ.get("OMP_WAIT_POLICY") == policy
    assert dict(os.environ) == before


def test_large_tensors_have_huge_pages():
    choice = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not choice.exists() or "[never]" in choice.read_text():
        pytest.skip("this system gives no huge pages")
    program = """
from rnn_lab.process import tuned_torch
with tuned_torch():
    import torch, lightning
large = torch.ones(25_000_000)
print(open("/proc/self/smaps_rollup").read().split("AnonHugePages:")[1].split()[0])
"""
    environment = os.environ.copy()
    environment.pop("THP_MEM_ALLOC_ENABLE", None)
    command = [sys.executable, "-c", program]
    kib = int(subprocess.check_output(command, cwd=PROJECT, env=environment))
    assert kib > 50_000  # of 97,656; the kernel gives none where memory is in pieces


def test_a_thread_that_has_no_work_takes_no_time():
    program = """
from rnn_lab.process import tuned_torch
with tuned_torch():
    import time, torch
torch.set_num_threads(2)
torch.ones(100_000).exp()
others, end = time.process_time() - time.thread_time(), time.perf_counter() + 0.3
while time.perf_counter() < end:
    torch.ones(100_000).exp()
    time.sleep(0.01)
print(time.process_time() - time.thread_time() - others)
"""

    # The other thread computes for 0.003 seconds. If it spins, it is busy for all of the 0.3, or as
    # long as a loaded machine lets it.
    variables = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in variables}
    command = [sys.executable, "-c", program]
    assert float(subprocess.check_output(command, cwd=PROJECT, env=environment)) < 0.03
