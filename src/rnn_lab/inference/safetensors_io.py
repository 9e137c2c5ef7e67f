"""A trained network as one .safetensors file: a format that cannot hold code, read in any torch.

The tensors are those of RecurrentClassifier, under its own names. All that predicting
 needs beside them stands in the file's metadata, as JSON under one key: what a
checkpoint of train.py has under the same names.
"""

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_lab.errors import CheckpointError, sanitize
from rnn_lab.io.atomic import atomic_write_bytes

SUFFIX = ".safetensors"
_KEY = "rnn-lab"  # of the metadata. One alone: the library writes several in any order
_DIGEST = "sha256"
_PARTS = {"hyper_parameters", "TextDataModule"}


def read_safetensors(path: Path) -> dict[str, Any]:
    """Return a file's content as a checkpoint holds it; tensors stay in the file until used.

    Raises:
        CheckpointError: it is no such file, or damaged. No message has the path.
    """
    from safetensors import safe_open

    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise CheckpointError("not a regular file")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # a damaged file can fail anywhere in the reader
        reason = sanitize(str(error).partition("\n")[0]) or type(error).__name__
        raise CheckpointError(f"cannot be read as safetensors: {reason}") from None
    if not isinstance(about, dict) or set(about) != _PARTS | {_DIGEST}:
        raise CheckpointError(f"has no description of a run under {_KEY!r} in its metadata")
    if about.pop(_DIGEST) != digest(weights, about):
        raise CheckpointError("damaged: its checksum is another")
    return about | {"state_dict": weights}


def digest(weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """sha256 (hex) of all that a file says: against damage, and no proof of where it comes from."""
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_safetensors(
    path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write what `read_safetensors` reads: `about` are the parts of a checkpoint beside weights.

    The same run gives the same bytes.

    Raises:
        UserError: the file cannot be written; says why.
    """
    from safetensors.torch import save

    assert set(about) == _PARTS
    described = json.dumps(dict(about) | {_DIGEST: digest(weights, about)})
    content = save(dict(weights), metadata={_KEY: described})
    with atomic_write_bytes(path) as file:
        file.write(content)
