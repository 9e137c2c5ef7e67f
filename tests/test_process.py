import resource
import subprocess
import sys

import pytest
import torch

from rnn_lab.process import tune_malloc
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


def test_denormals_are_zero_in_every_thread():
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
    subprocess.run([sys.executable, "-c", code], check=True)


def test_peak_memory_is_in_bytes_and_excludes_the_parent_process():
    """The memory of the process that started it does not count."""
    program = """
from rnn_lab.process import peak_memory_bytes
before = peak_memory_bytes()
block = bytearray(300_000_000)
print(before, peak_memory_bytes())
"""
    size = 800_000_000
    held = bytearray(size)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    del held
    assert 5e6 < before < size
    assert after - before > 200e6
