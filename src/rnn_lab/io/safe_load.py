"""A file of torch.save, read without running or importing anything that is in it.

torch.load(weights_only=True) alone is not trusted with a stranger's file: it has had holes, and a
few bytes can make it take all memory. So the archive and the names in its pickle are looked at
first, and of those names only the few let through that our own checkpoints have.
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

from rnn_lab.errors import CheckpointError, sanitize

_NAMES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2"
    r"|torch (Float|Double|Half|BFloat16|Long|Int|Short|Byte|Char|Bool)Storage"
)
# Opcodes that call or import by other means than a GLOBAL with its name. torch.save has none.
_FOREIGN = {
    *("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"),
    *("NEXT_BUFFER", "READONLY_BUFFER"),
}


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint that would run code. No training leaves such a one, however it ends."""


def safe_load(path: Path, *, in_place: bool = False) -> Any:
    """Return the numbers, names and tensors in a file of torch.save.

    All of it is compared with its checksums. `in_place` leaves tensors in the file until they are
    used.

    Raises:
        UnsafeCheckpointError: it names anything that could be run.
        CheckpointError: it is no such file, or damaged. No message has the path.
    """
    try:
        _check_regular(path)
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive, path.stat().st_size)
            if damaged := archive.testzip():
                raise CheckpointError(f"damaged in {sanitize(damaged)}")
            _check_pickle(archive)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=in_place)
        for tensor in _tensors(content):
            _check_size(tensor)
    except CheckpointError:
        raise
    except zipfile.BadZipFile as error:
        is_whole = "CRC" in str(error)
        raise CheckpointError("damaged" if is_whole else "cut off, or not a checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from None
    except Exception as error:  # a damaged file can fail anywhere in the reader
        reason = sanitize(str(error).partition("\n")[0]) or type(error).__name__
        raise CheckpointError(f"cannot be read as a checkpoint: {reason}") from None
    return content


def _check_regular(path: Path) -> None:
    """A pipe would be waited for, and a device has no end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise CheckpointError("not a regular file")


def _check_entries(archive: zipfile.ZipFile, size: int) -> None:
    """Make sure that nothing in the archive is larger than in the file of `size` bytes."""
    entries = archive.infolist()
    # torch stores and never compresses: anything else could grow without bound when read.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError("compressed, which checkpoints never are")
    if sum(entry.file_size for entry in entries) > size:
        raise CheckpointError("its parts are larger than the file")
    if len({entry.filename for entry in entries}) < len(entries) or archive.comment:
        raise CheckpointError("not an archive of torch.save")  # two readers may see two archives


def _check_pickle(archive: zipfile.ZipFile) -> None:
    """Read the names in the pickle, which are not looked up."""
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("not an archive of torch.save")
    for opcode, argument, _ in pickletools.genops(archive.read(pickles[0])):
        if opcode.name in _FOREIGN:
            raise UnsafeCheckpointError(
                f"refused: holds {opcode.name}; checkpoints hold plain data only"
            )
        if opcode.name == "GLOBAL" and not _NAMES.fullmatch(str(argument)):
            name = sanitize(str(argument).replace(" ", "."))
            raise UnsafeCheckpointError(
                f"refused: it would run {name}; checkpoints hold plain data only"
            )


def _tensors(content: Any) -> Iterator[Tensor]:
    """Every tensor in nested dictionaries, lists and tuples, which may hold themselves."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _check_size(tensor: Tensor) -> None:
    # Strides of 0 make a few bytes as large as one likes, which a copy would then be.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError("damaged: a tensor in it is larger than its bytes")
