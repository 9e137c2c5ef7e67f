"""Where a process is to be killed: at which call of which function, on which file.

An aim is a dict, so that a plan can hold it: {"call": "torch.Tensor.backward", "number": 6} is
the sixth backward pass. More keys:

    file     only calls count that have a file with this in its path, as argument or descriptor
    when     "before" the call (the default), "after" it, or "half": of a torch.save, with half of
             the bytes written
    signal   in place of SIGKILL; the call is made then
"""

import importlib
import io
import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

SIGNALLED = "signalled"  # a file in the working folder: when an aim hit, by the monotonic clock


def arm(aim: dict[str, Any]) -> None:
    """Make this process kill itself where `aim` says."""
    owner, name = _found(aim["call"])
    function, hit = getattr(owner, name), itertools.count(1)

    def call(*arguments: Any, **options: Any) -> Any:
        counts = aim.get("file", "") in " ".join(map(_path, arguments))
        if not counts or next(hit) != aim.get("number", 1):
            return function(*arguments, **options)
        when, result = aim.get("when", "before"), None
        if when == "half":
            _save_half(function, *arguments)
        elif when == "after":
            result = function(*arguments, **options)
        Path(SIGNALLED).write_text(str(time.monotonic()))
        os.kill(os.getpid(), getattr(signal, aim.get("signal", "SIGKILL")))
        return result if when == "after" else function(*arguments, **options)

    setattr(owner, name, call)


def _found(dotted: str) -> tuple[Any, str]:
    """The module or class that has the function of that name, and its name there."""
    *path, name = dotted.split(".")
    for modules in range(len(path), 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(path[:modules]))
        except ModuleNotFoundError:
            continue
        for part in path[modules:]:
            owner = getattr(owner, part)
        return owner, name
    raise ModuleNotFoundError(dotted)


def _path(argument: Any) -> str:
    if isinstance(argument, int):
        link = Path(f"/proc/self/fd/{argument}")
        return str(link.readlink()) if link.is_symlink() else ""
    if isinstance(argument, str | Path):
        return str(argument)
    return str(getattr(argument, "name", ""))


def _save_half(save: Any, content: Any, file: Any) -> None:
    whole = io.BytesIO()
    save(content, whole)
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()
