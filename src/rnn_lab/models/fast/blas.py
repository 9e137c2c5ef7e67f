"""Where in memory the matrix products lie that compiled code may call: BLAS's gemm.

They are those that torch itself uses where its library shows them (Intel's MKL), else SciPy's. A
product of bfloat16 with sums in float32 is in MKL alone, and fast where the processor has AMX.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from numba.extending import get_cython_function_address

_MKL = {
    torch.float32: "SGEMM",
    torch.float64: "DGEMM",
    torch.bfloat16: "GEMM_BF16BF16F32",
}
_SCIPY = {torch.float32: "sgemm", torch.float64: "dgemm"}


@functools.cache
def gemm_address(dtype: torch.dtype) -> int:
    """The address of a gemm over matrices of that type.

    Raises:
        ValueError: there is none; see `has_fast_bf16_gemm`.
    """
    address = _address_in_torch(_MKL[dtype])
    if address is None:
        if dtype not in _SCIPY:
            raise ValueError(f"no matrix product of {dtype} can be called by compiled code here")
        address = get_cython_function_address("scipy.linalg.cython_blas", _SCIPY[dtype])
    return address


@functools.cache
def has_fast_bf16_gemm() -> bool:
    """Whether compiled code may multiply bfloat16 at more than the speed of float32."""
    return _has_amx() and _address_in_torch(_MKL[torch.bfloat16]) is not None


def _has_amx() -> bool:
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)  # not in torch 2.3
    return supported is not None and bool(supported()) and bool(torch.cpu._init_amx())


def _address_in_torch(name: str) -> int | None:
    function = function_in_torch(name)
    return None if function is None else ctypes.cast(function, ctypes.c_void_p).value


@functools.cache
def function_in_torch(name: str) -> Any:
    """The C function of that name in torch's library or one that it is linked to; None for none."""
    for library in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.so"):
        return getattr(ctypes.CDLL(str(library)), name, None)
    return None
