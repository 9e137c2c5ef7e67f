"""Runs code as `python -c <code> <arguments>` does, for `run_warm_command`."""

import sys


def main() -> None:
    _, code, *arguments = sys.argv
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})
