"""What compiled code takes from torch's own library: matrix products and threads.

Torch has two products: oneDNN's brgemm, which multiplies as the matrices are, and MKL's gemm, which
first copies them into another order. With the few rows of a time step the copy takes up to half of
the time. Without AVX-512, brgemm is faster still where the right factor is copied into panels, once
for all steps: of rows that are a power of two apart, few fit the first cache at once. Products of
bfloat16 have sums in float32. Where torch's library exports neither, the gemm is SciPy's, without
bfloat16. Threads are those of torch's OpenMP, which wait for work between two of its operations;
any others would have to wait until those sleep.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numba.extending import get_cython_function_address

from rnn_lab.process import is_fast_at_bf16

_MKL = {torch.float32: "SGEMM", torch.float64: "DGEMM", torch.bfloat16: "GEMM_BF16BF16F32"}
_SCIPY = {torch.float32: "sgemm", torch.float64: "dgemm"}
# at::native::cpublas, of oneDNN. Mangled, since the functions of all types have one name.
_BRGEMM = {
    torch.float32: "_ZN2at6native7cpublas6brgemmEllllllbPKfS3_Pfb",
    torch.bfloat16: "_ZN2at6native7cpublas6brgemmEllllllbPKN3c108BFloat16ES5_Pfb",
}
PANEL_COLUMNS = 32  # benchmarks/README.md; of 16 as fast, with more calls
_BRGEMM_RELEASE = "_ZN2at6native7cpublas14brgemm_releaseEb"
_PIECES_PER_THREAD = 2  # a thread whose core is busy with another program takes fewer
_MIN_SEQUENCES = 8  # per piece: with fewer, starting a thread costs more than it saves


class Products(NamedTuple):
    """Addresses of the functions that multiply matrices of one type, for compiled code.

    0: there is none, or another one is faster. Of bfloat16, the right factor of a brgemm is packed:
    of two successive rows, numbers of one column are neighbours. Of float32, it may be in panels:
    matrices of `panel` columns, the last one of what is left, each contiguous.

    Kernels read the fields by position: who changes them changes `kernels.py` too, so that Numba
    compiles cached kernels again.
    """

    step: int  # the brgemm for the products of a time step; 0: `gemm`
    block: int  # the brgemm for those of several steps at once; 0: `gemm`
    gemm: int  # for those with a transposed left factor, too; 0: `block`, of a transposed copy
    release: int  # frees the processor's tiles after a brgemm: any other product sets up its own
    panel: int  # columns of a panel of the right factors of `step` and `block`; 0: no panels


def products(dtype: torch.dtype, features: int, hidden: int) -> Products | None:
    """Return the fastest products of matrices of that type, None for bfloat16 without fast ones.

    A packed factor has an even number of rows: as many as the state has for a time step, and the
    inputs for a block.
    """
    brgemm = brgemm_address(dtype)
    if dtype != torch.bfloat16:
        has_panels = brgemm > 0 and torch.backends.cpu.get_cpu_capability() == "AVX2"
        panel = PANEL_COLUMNS if has_panels else 0
        return Products(brgemm, brgemm, gemm_address(dtype), 0, panel)
    step = brgemm if hidden % 2 == 0 else 0
    if has_fast_bf16_gemm():
        release = _address_in_torch(_BRGEMM_RELEASE) if step else 0
        block = step if features % 2 == 0 else 0
        return Products(step, block, gemm_address(dtype), release, 0)
    return Products(step, brgemm, 0, 0, 0) if step and features % 2 == 0 else None


@functools.cache
def gemm_address(dtype: torch.dtype) -> int:
    """Return the address of BLAS's gemm for matrices of that type.

    Raises:
        ValueError: there is none; see `has_fast_bf16_gemm`.
    """
    if address := _address_in_torch(_MKL[dtype]):
        return address
    if dtype in _SCIPY:
        return get_cython_function_address("scipy.linalg.cython_blas", _SCIPY[dtype])
    raise ValueError(f"no matrix product of {dtype} can be called by compiled code here")


def brgemm_address(dtype: torch.dtype) -> int:
    """Return the address of torch's brgemm for matrices of that type, or 0.

    It ends the process where oneDNN may not use the instructions that it needs.
    """
    limited = "ONEDNN_MAX_CPU_ISA" in os.environ or "DNNL_MAX_CPU_ISA" in os.environ
    if limited or not torch.backends.mkldnn.enabled or dtype not in _BRGEMM:
        return 0
    if dtype == torch.bfloat16:
        is_fast = _has_amx() or is_fast_at_bf16(_cpu_capabilities())
    else:
        is_fast = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return _address_in_torch(_BRGEMM[dtype]) if is_fast else 0


@functools.cache
def has_fast_bf16_gemm() -> bool:
    """Return whether compiled code can multiply bfloat16 by MKL faster than float32."""
    return _has_amx() and function_in_torch(_MKL[torch.bfloat16]) is not None


@functools.cache
def _has_amx() -> bool:
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)  # not in torch 2.3
    return bool(has_amx() and torch.cpu._init_amx())


@functools.cache
def _cpu_capabilities() -> dict[str, Any]:
    if not hasattr(torch.cpu, "get_capabilities"):  # in torch 2.3
        return {}
    return dict(torch.cpu.get_capabilities())


def batch_pieces(batch: int) -> list[tuple[int, int]]:
    """Cut the sequences 0 to batch into (first, last) pieces, to be run by torch's threads."""
    threads = torch.get_num_threads()
    count = 1 if threads == 1 else _PIECES_PER_THREAD * threads
    count = max(1, min(count, batch // _MIN_SEQUENCES))
    return [(piece * batch // count, (piece + 1) * batch // count) for piece in range(count)]


def parallel_for(count: int, work: Callable[[int], None]) -> None:
    """Call work(0) to work(count - 1), in parallel where `work` frees the GIL.

    Matrix products within `work` take one thread each. Where torch has no GNU OpenMP, the calls
    come after one another.
    """
    left = iter(range(count))
    raised: list[BaseException] = []
    # Modes of the calling thread alone: without them, another may not write into its tensors.
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    @_Region
    def share(_: Any) -> None:
        former = _set_mkl_threads(1)
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(grad):
                for index in left:
                    work(index)
        except BaseException as error:
            raised.append(error)
        finally:
            _set_mkl_threads(former)

    threads = min(torch.get_num_threads(), count)
    parallel = _openmp_parallel() if threads > 1 else None
    if parallel is None:
        share(None)
    else:
        parallel(share, None, threads, 0)
    if raised:
        raise raised[0]


def _set_mkl_threads(count: int) -> int:
    """Let MKL use `count` threads where this thread calls it, 0: all; return the former number.

    Within a parallel region it uses one anyway, but for each product begins a region of its own.
    """
    function = function_in_torch("MKL_Set_Num_Threads_Local")
    return 0 if function is None else int(function(count))


_Region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _openmp_parallel() -> Callable[..., Any] | None:
    """Return GNU OpenMP's parallel region, or None."""
    parallel: Callable[..., Any] | None = function_in_torch("GOMP_parallel")
    if parallel is not None:
        parallel.argtypes = [_Region, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]  # type: ignore[attr-defined]
    return parallel


def _address_in_torch(name: str) -> int:
    function = function_in_torch(name)
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


@functools.cache
def function_in_torch(name: str) -> Any:
    """The C function of that name in torch's library or one that it is linked to, or None."""
    for library in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.so"):
        return getattr(ctypes.CDLL(str(library)), name, None)
    return None
