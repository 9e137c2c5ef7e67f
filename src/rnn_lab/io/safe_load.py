"""Load an untrusted file of torch.save without running or importing anything that it names.

torch.load(weights_only=True) alone is not enough: it has had vulnerabilities, and a few bytes can
make it allocate all memory. So the archive and the names in its pickle are checked first. Only the
few names that the checkpoints of this project contain are allowed.
"""

import pickletools
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_lab.errors import CheckpointError, first_line, sanitize

_NAMES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2"
    r"|torch (Float|Double|Half|BFloat16|Long|Int|Short|Byte|Char|Bool)Storage"
)
# Opcodes that call or import other than by a GLOBAL with a name. torch.save writes none of them.
_FORBIDDEN_OPCODES = {
    *("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"),
    *("NEXT_BUFFER", "READONLY_BUFFER"),
}


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint that would run code. No training writes one, however it ends."""


def safe_load(path: Path, *, mmap: bool = False) -> Any:
    """Return the numbers, strings and tensors in a file of torch.save.

    All of it is verified against its checksums. With `mmap`, tensors stay in the file until they
    are used.

    Raises:
        UnsafeCheckpointError: it names anything that could be run.
        CheckpointError: it is not such a file, or damaged. The message does not have the path.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block, and a device has no end
            raise CheckpointError("not a regular file")
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive, path.stat().st_size)
            if damaged := archive.testzip():
                raise CheckpointError(f"damaged in {sanitize(damaged)}")
            _check_pickle(archive)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        for tensor in _tensors(content):
            # Strides of 0 stretch a few bytes to any size, which a copy would then have.
            if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
                raise CheckpointError("damaged: a tensor in it is larger than its bytes")
    except CheckpointError:
        raise
    except zipfile.BadZipFile as error:
        is_whole = "CRC" in str(error)
        raise CheckpointError("damaged" if is_whole else "truncated, or not a checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from None
    except Exception as error:  # a damaged file can fail anywhere in the reader
        reason = sanitize(first_line(error))
        raise CheckpointError(f"cannot be read as a checkpoint: {reason}") from None
    return content


def _check_entries(archive: zipfile.ZipFile, size: int) -> None:
    """Make sure that nothing in the archive grows when it is read from the file of `size` bytes."""
    entries = archive.infolist()
    # torch never compresses: a compressed entry could grow without bound.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError("compressed, which checkpoints never are")
    if sum(entry.file_size for entry in entries) > size:
        raise CheckpointError("its parts are larger than the file")
    if len({entry.filename for entry in entries}) < len(entries) or archive.comment:
        # Two readers may read two different archives.
        raise CheckpointError("not an archive of torch.save")


def _check_pickle(archive: zipfile.ZipFile) -> None:
    """Check the names in the pickle without importing them."""
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("not an archive of torch.save")
    for opcode, argument, _ in pickletools.genops(archive.read(pickles[0])):
        fault = None
        if opcode.name in _FORBIDDEN_OPCODES:
            fault = f"contains {opcode.name}"
        elif opcode.name == "GLOBAL" and not _NAMES.fullmatch(str(argument)):
            fault = f"it would run {sanitize(str(argument).replace(' ', '.'))}"
        if fault:
            raise UnsafeCheckpointError(f"refused: {fault}; checkpoints contain plain data only")


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested dictionaries, lists and tuples, which may contain themselves."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)
