"""Measure training on a busy machine: `python benchmarks/busy.py`.

Training steps of ours and of torch's unpacked layer, alone and beside programs that use a core
each. Each has a process of its own; threads of ours sleep while they wait, as in train.py. A fair
scheduler leaves our share of the cores: on two cores 67 % beside one program, 50 % beside two.
Threads that wait for one another get less. Torch has all threads, and one.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from torch import nn

from benchmarks.clock import interleave, median
from benchmarks.contenders import OURS, OURS_BF16, UNPACKED, plain_model, torch_contender
from benchmarks.machine import describe_machine, has_fast_bf16, prepare_process
from benchmarks.peers import TextbookClassifier
from benchmarks.reviews import BATCH_SIZE, VOCAB_SIZE, Sample, load_sample
from benchmarks.tables import markdown_table, report
from rnn_lab.models.classifier import RecurrentClassifier

BURNERS = (0, 1, 2)  # programs beside
SIZE = 128
ONE_THREAD = f"{UNPACKED}, 1 thread"
HEADER = ("model", "contender", "alone, reviews/s", "beside one program", "beside two")
# As train.py has it, and torch.
ENVIRONMENTS: dict[str, dict[str, str]] = {"ours": {"OMP_WAIT_POLICY": "PASSIVE"}, "torch": {}}
BURN = "print(flush=True)\nwhile True: pass"


def main() -> None:
    """Measure, print the table, and write it to --markdown."""
    options = parse()
    if options.child:
        print(json.dumps(measure(options)))
        return
    found = {who: ask_child(who, options) for who in ENVIRONMENTS}
    lines = []
    for model in options.models:
        for name, passes in [*found["ours"][model].items(), *found["torch"][model].items()]:
            alone, *beside = passes  # seconds
            shares = (f"{100 * alone / seconds:.0f} %" for seconds in beside)
            lines.append((model, name, f"{options.batches * BATCH_SIZE / alone:,.0f}", *shares))
    cores = os.cpu_count() or 1
    fair = [f"{100 * min(1, cores / (options.threads + n)):.0f} %" for n in BURNERS[1:]]
    notes = f"Batches of {BATCH_SIZE} reviews, sizes {SIZE}/{SIZE}."
    notes += f" A fair share beside one program: {fair[0]}, beside two: {fair[1]}."
    report(
        [describe_machine(options.threads), notes, markdown_table(HEADER, lines)], options.markdown
    )


def ask_child(who: str, options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return `measure` of a process whose threads wait as that contender's do by default."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", who]
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        command, env=environment | ENVIRONMENTS[who], check=True, stdout=subprocess.PIPE
    )
    found: dict[str, dict[str, list[float]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return the median seconds of a pass by model, contender and number of burners."""
    prepare_process(options.threads)
    _, sample = load_sample(options.cache_dir, options.batches)
    found: dict[str, dict[str, list[float]]] = {}
    for model in options.models:
        turns = contenders(options.child, model, sample, options.threads)
        beside = {
            (name, count): beside_burners(turn, count)
            for count in BURNERS
            for name, turn in turns.items()
        }
        rounds = interleave(beside, options.rounds, options.seconds)
        found[model] = {
            name: [median(rounds, (name, count)) for count in BURNERS] for name in turns
        }
    return found


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["lstm", "gru", "rnn"])
    parser.add_argument("--batches", type=int, default=4, help="that represent the epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn, at least one pass")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    parser.add_argument("--child", choices=list(ENVIRONMENTS), help=argparse.SUPPRESS)
    return parser.parse_args()


Turn = Callable[[float], float]  # from the least seconds to run to the seconds of a pass


def contenders(who: str, name: str, sample: Sample, threads: int) -> dict[str, Turn]:
    """Build ours, with the embedding's updates of train.py, or torch's unpacked layer."""
    config = plain_model(name, SIZE)
    if who == "torch":
        return {
            label: _turn(TextbookClassifier(config, VOCAB_SIZE, 2, reads="padded"), sample, count)
            for label, count in {UNPACKED: threads, ONE_THREAD: 1}.items()
        }
    turns = {OURS: _turn(RecurrentClassifier(config, VOCAB_SIZE, 2), sample, threads)}
    if has_fast_bf16():
        model = RecurrentClassifier(config, VOCAB_SIZE, 2)
        turns[OURS_BF16] = _turn(model, sample, threads, bf16=True)
    return turns


def _turn(model: nn.Module, sample: Sample, threads: int, *, bf16: bool = False) -> Turn:
    return torch_contender(model, sample.bucketed, [threads], bf16=bf16).turns[threads]


def beside_burners(turn: Turn, count: int) -> Turn:
    """Return `turn` beside `count` programs that use a core each."""

    def measured(seconds: float) -> float:
        with burners(count):
            return turn(seconds)

    return measured


@contextmanager
def burners(count: int) -> Iterator[None]:
    """Run `count` programs that do nothing but use a core each."""
    command = [sys.executable, "-c", BURN]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(0.1)
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    main()
