"""Runs train.py in so many bytes of memory beyond what its process takes, which has imported.

Its arguments are that number and those of train.py.
"""

import resource
import sys
from pathlib import Path

import train


def main() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(sys.argv.pop(1))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.argv[0] = "train.py"
    train.main()
