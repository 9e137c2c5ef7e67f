"""What compiled code takes from torch's own library: matrix products and threads.

Products are those of torch where its library exports them (Intel's MKL), else SciPy's. A product of
bfloat16 with sums in float32 exists in MKL only, and is fast where the processor has AMX. Threads
are those of torch's OpenMP, which wait for work between two of its operations; any others would
have to wait until those sleep.
"""

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from numba.extending import get_cython_function_address

_MKL = {torch.float32: "SGEMM", torch.float64: "DGEMM", torch.bfloat16: "GEMM_BF16BF16F32"}
_SCIPY = {torch.float32: "sgemm", torch.float64: "dgemm"}
_MIN_SEQUENCES = 8  # per thread: with fewer, starting the threads costs more than they save


@functools.cache
def gemm_address(dtype: torch.dtype) -> int:
    """Return the address of BLAS's gemm for matrices of that type.

    Raises:
        ValueError: there is none; see `has_fast_bf16_gemm`.
    """
    if (function := function_in_torch(_MKL[dtype])) is not None:
        return ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[return-value]
    if dtype in _SCIPY:
        return get_cython_function_address("scipy.linalg.cython_blas", _SCIPY[dtype])
    raise ValueError(f"no matrix product of {dtype} can be called by compiled code here")


@functools.cache
def has_fast_bf16_gemm() -> bool:
    """Return whether compiled code can multiply bfloat16 faster than float32."""
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)  # not in torch 2.3
    usable = has_amx() and torch.cpu._init_amx()
    return bool(usable) and function_in_torch(_MKL[torch.bfloat16]) is not None


def parallel_over_batch(batch: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) for parts of the sequences 0 to batch in parallel; it frees the GIL.

    Matrix products within `work` take one thread each. Where torch has no GNU OpenMP, `work` is
    called once for all sequences.
    """
    parts = min(torch.get_num_threads(), batch // _MIN_SEQUENCES)
    threads = _openmp() if parts > 1 else None
    if threads is None:
        work(0, batch)
        return
    parallel, thread_number, thread_count = threads
    raised: list[BaseException] = []

    @_Region
    def share(_: Any) -> None:
        part, of = thread_number(), thread_count()
        try:
            work(part * batch // of, (part + 1) * batch // of)
        except BaseException as error:
            raised.append(error)

    parallel(share, None, parts, 0)
    if raised:
        raise raised[0]


_Region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _openmp() -> tuple[Callable[..., Any], ...] | None:
    """GNU OpenMP's parallel region, and within it a thread's number and the number of threads."""
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    parallel, *others = (function_in_torch(name) for name in names)
    if parallel is None:
        return None
    parallel.argtypes = [_Region, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    return parallel, *others


@functools.cache
def function_in_torch(name: str) -> Any:
    """The C function of that name in torch's library or one that it is linked to, or None."""
    for library in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.so"):
        return getattr(ctypes.CDLL(str(library)), name, None)
    return None
