"""Measure a server under load: `python benchmarks/serve.py <run>`.

Starts `rnn-lab serve` on a free port of this machine, and asks it from several threads of this
process, which shares the processor with it. Each row of the table is one kind of load; the server
is the same for all.
"""

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.reviews import load_reviews
from benchmarks.tables import markdown_table, report

# Clients at a time, and texts in each of their requests.
LOADS = ((1, 1), (8, 1), (32, 1), (4, 32))
HEADER = (
    *("clients", "texts a request", "requests/s", "reviews/s", "p50", "p99", "errors"),
    *("texts a batch", "memory before", "after"),
)
NOTES = """\
{seconds:g} s for each row, test reviews of {corpus} in turn, each client on one connection. \
Memory is the resident memory of the server."""
_TIMEOUT = 60  # seconds


@dataclass
class Measured:
    """What the clients of one load have seen."""

    seconds: list[float] = field(default_factory=list)  # of each request
    errors: int = 0


@dataclass(frozen=True)
class Address:
    """A running server."""

    port: int

    def metric(self, name: str) -> float:
        """Return the value of a metric of the server, added up over its labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(map(float, re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)))


def main() -> None:
    """Measure, print the table, and write it to --markdown."""
    options = parse()
    data = load_reviews(options.cache_dir)
    assert data.corpus.test is not None
    count = len(data.corpus.test)
    rows = np.linspace(0, count - 1, min(options.reviews, count)).astype(int)
    texts = [data.corpus.test.texts[row] for row in rows]
    lines = []
    with running_server(options.run, options.threads) as server:
        measure(server, texts, 4, 8, seconds=min(3, options.seconds))  # touches all memory once
        for clients, size in LOADS:
            print(f"{clients} clients, {size} texts", file=sys.stderr)
            lines.append(row_of(server, texts, clients, size, options.seconds))
    notes = NOTES.format(seconds=options.seconds, corpus=data.corpus.name)
    report(
        [describe_machine(options.threads), notes, markdown_table(HEADER, lines)], options.markdown
    )


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="a finished run, or a .ckpt, .safetensors or .onnx file")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each row")
    parser.add_argument("--reviews", type=int, default=1_000, help="number of different ones")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the server")
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    return parser.parse_args()


@contextmanager
def running_server(run: str, threads: int) -> Iterator[Address]:
    """Start a server of the run in a process of its own; stop it at the end."""
    source = str(Path(__file__).resolve().parents[1] / "src")
    process = subprocess.Popen(
        [sys.executable, "-m", "rnn_lab", "serve", f"run={run}", "port=0"],
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if (found := re.search(r":(\d+)/", line)) is None:
            sys.exit("the server has not started")
        yield Address(int(found[1]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_TIMEOUT)


def row_of(
    server: Address, texts: list[str], clients: int, size: int, seconds: float
) -> tuple[str, ...]:
    """Return the row of one load below HEADER."""
    names = (
        "process_resident_memory_bytes",
        "rnn_lab_batch_texts_count",
        "rnn_lab_batch_texts_sum",
    )
    before = [server.metric(name) for name in names]
    begin = time.perf_counter()
    found = measure(server, texts, clients, size, seconds)
    duration = time.perf_counter() - begin
    after = [server.metric(name) for name in names]
    rate = len(found.seconds) / duration
    middle, slow = np.percentile(found.seconds, [50, 99])
    return (
        str(clients),
        str(size),
        f"{rate:,.0f}",
        f"{size * rate:,.0f}",
        f"{1e3 * middle:.1f} ms",
        f"{1e3 * slow:.1f} ms",
        str(found.errors),
        f"{(after[2] - before[2]) / max(1, after[1] - before[1]):.1f}",
        f"{before[0] / 2**20:.0f} MiB",
        f"{after[0] / 2**20:.0f} MiB",
    )


def measure(server: Address, texts: list[str], clients: int, size: int, seconds: float) -> Measured:
    """Ask the server from so many threads for so long."""
    found = Measured()
    until = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_TIMEOUT)
        position = number * len(texts) // clients
        while (begin := time.perf_counter()) < until:
            chosen = [texts[(position + i) % len(texts)] for i in range(size)]
            position += size
            headers = {"Content-Type": "application/json"}
            try:
                connection.request("POST", "/predict", json.dumps({"texts": chosen}), headers)
                response = connection.getresponse()
                answer = json.loads(response.read())
                is_right = response.status == 200 and len(answer["predictions"]) == size
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                connection.close()
                is_right = False
            found.seconds.append(time.perf_counter() - begin)
            found.errors += not is_right
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


if __name__ == "__main__":
    main()
