"""Runs as .safetensors files, which cannot contain code.

The tensors are those of RecurrentClassifier, under its own names. The metadata holds the rest that
predicting needs as JSON under one key: the parts of a checkpoint of train.py, under the same names,
the schema version, and a checksum. Any version of torch can read such a file.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnn_lab.errors import CheckpointError, first_line, sanitize
from rnn_lab.io.schema import SCHEMA_KEY, SCHEMA_VERSION, schema_mismatch

if TYPE_CHECKING:  # torch takes seconds to import: only once the options are valid
    from torch import Tensor

SUFFIX = ".safetensors"
_KEY = "rnn-lab"  # of the metadata. One key, because the library writes several in any order
_DIGEST = "sha256"
_MAX_HEADER = 100_000_000  # bytes, as the library has it
_PARTS = {"hyper_parameters", "TextDataModule"}


def pack_safetensors(
    weights: Mapping[str, "Tensor"], about: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """Return the content of a file for `read_safetensors`. The same run gives the same bytes.

    `weights` are those of a RecurrentClassifier, and `about` the parts of a checkpoint beside them.
    """
    from safetensors.torch import save

    assert set(about) == _PARTS
    described: dict[str, Any] = {SCHEMA_KEY: SCHEMA_VERSION, **about}
    described |= {_DIGEST: digest(weights, described)}
    return save(dict(weights), metadata={_KEY: json.dumps(described)})


def read_safetensors(path: Path) -> dict[str, Any]:
    """Return a file's content in the form of a checkpoint; tensors stay in the file until used.

    Raises:
        CheckpointError: it is not such a file, has another schema version, or is damaged. The
            message does not have the path.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # a damaged file can fail anywhere in the reader
        reason = sanitize(first_line(error))
        raise CheckpointError(f"cannot be read as safetensors: {reason}") from None
    is_ours = isinstance(about, dict) and (SCHEMA_KEY in about or set(about) > _PARTS)
    if is_ours and (mismatch := schema_mismatch(about.get(SCHEMA_KEY))):
        raise CheckpointError(mismatch)
    if not isinstance(about, dict) or set(about) != _PARTS | {SCHEMA_KEY, _DIGEST}:
        raise CheckpointError(f"has no description of a run under {_KEY!r} in its metadata")
    if about.pop(_DIGEST) != digest(weights, about):
        raise CheckpointError("damaged: its checksum does not match")
    return about | {"state_dict": weights}


def is_ours(path: Path) -> bool:
    """Return whether a file is of `pack_safetensors`, of any version; only its header is read."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(min(size, _MAX_HEADER))
    try:
        metadata = json.loads(header)["__metadata__"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return False
    return isinstance(metadata, dict) and _KEY in metadata


def digest(weights: Mapping[str, "Tensor"], about: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of a file's content, to detect damage; it proves no origin."""
    import torch

    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
