"""Compare training on one NVIDIA GPU with torch's layers: `python benchmarks/gpu.py`.

Within 8 minutes: whether our layers equal torch's packed ones, reviews/s end to end, time to 88 %
validation accuracy, and where the time of a step goes. `--device cpu --quick` checks that it runs.
"""

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from benchmarks.contenders import plain_model
from benchmarks.machine import describe_machine
from benchmarks.peers import Reads, TextbookClassifier
from benchmarks.races import Goal, accuracy, race_ours, test_every
from benchmarks.reviews import BATCH_SIZE, MAX_LENGTH
from benchmarks.tables import markdown_table, report
from benchmarks.time_to_accuracy import compose
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.process import flush_denormals, num_threads, tune_malloc
from rnn_lab.training.callbacks import build_callbacks
from rnn_lab.training.config import RunConfig
from rnn_lab.training.hardware import Hardware
from rnn_lab.training.recipe import resolve_recipe
from rnn_lab.training.spec import RunSpec
from rnn_lab.training.trainer import build_trainer, silence_lightning

OURS, OURS_BF16 = "ours, float32", "ours, bfloat16"
PACKED, PADDED = "textbook, packed", "textbook, padded"
PRECISIONS = {OURS: "32-true", OURS_BF16: "bf16-mixed"}
LEAST_OVER_PACKED, BAR_SIZES = 5.0, (128, 256)  # end to end; at other sizes: at least 1
WIDEST = {torch.float32: 1e-4, torch.bfloat16: 5e-2}  # norm of a difference over the norm
HEADER = ("model", "size", "contender", "final states", "reviews/s", "vs packed", "peak memory")
EQUAL_HEADER = ("model", "directions", "precision", "logits", "gradients", "equal")
TIME_HEADER = ("model", "contender", "accuracy", "reached after", "best", "at")
PROFILE_HEADER = ("contender", "operation", "share of time")
TARGET_HEADER = ("target", "at least", "measured", "met")
NOTES = """\
{reviews} training reviews of {corpus}, cut to {length} tokens, batches of {batch}. Ours is the \
training of train.py: Lightning, batches of reviews of similar length, its optimizer and clipping. \
A textbook loop is a DataLoader that shuffles and pads, torch's layer, and AdamW in float32; \
"packed" has pack_padded_sequence, "padded" reads the padding and gives wrong final states. All \
numbers are end to end, batches and copies to the GPU included, with the warm-up off the clock."""


@dataclass
class Clock:
    """How long to measure, and until when; with a profiler, what is on the clock is profiled."""

    device: torch.device
    warmup: int  # steps
    seconds: float
    deadline: float  # of time.perf_counter
    profiler: Any = None  # a torch.profiler.profile
    elapsed: float = float("nan")  # seconds of the last measurement
    _start: float = 0.0

    def start(self) -> None:
        """Start measuring, after the device has done what it was given."""
        finish(self.device)
        if self.profiler:
            self.profiler.start()
        self._start = time.perf_counter()

    def is_over(self) -> bool:
        """Return whether the seconds have passed."""
        return time.perf_counter() - self._start >= self.seconds

    def stop(self) -> None:
        """Wait for the device and stop measuring."""
        finish(self.device)
        self.elapsed = time.perf_counter() - self._start
        if self.profiler:
            self.profiler.stop()


def main() -> None:
    """Measure, print the tables, and write them to --markdown."""
    options = parse()
    started = time.perf_counter()
    tune_malloc()
    flush_denormals()
    silence_lightning()
    device = torch.device(options.device)
    clock = Clock(device, options.warmup, options.seconds, started + options.limit)
    config = prepare(options.models[0], options)
    data = load_data(config)
    late: list[str] = []
    equal = [equality_row(*case, device) for case in equality_cases(options.models)]
    rates = measure_rates(options, data, device, clock, late)
    races = measure_times(options, data, device, clock, late)
    profiles = profile_rows(options, data, clock) if time_is_left(clock, "profile", late) else []
    paragraphs = [
        describe_device(device),
        NOTES.format(
            reviews=f"{len(data.splits['train']):,}",
            corpus="IMDB" if data.corpus.name == "imdb" else "the synthetic demo corpus",
            length=MAX_LENGTH,
            batch=BATCH_SIZE,
        ),
        "Relative differences to torch's packed layer with the same weights, on this device:",
        markdown_table(EQUAL_HEADER, equal),
        markdown_table(HEADER, rate_rows(rates)),
        markdown_table(TIME_HEADER, races),
        markdown_table(PROFILE_HEADER, profiles),
        markdown_table(TARGET_HEADER, [*target_rows(rates), equality_target(equal)]),
        *([f"Not measured, out of time: {', '.join(late)}."] if late else []),
        f"Measured in {time.perf_counter() - started:,.0f} seconds.",
    ]
    report(paragraphs, options.markdown)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    models = ["lstm", "gru", "rnn"]
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--models", nargs="+", default=models, choices=models)
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256, 1024], metavar="SIZE")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--warmup", type=int, default=20, help="steps off the clock")
    parser.add_argument("--limit", type=float, default=450, help="seconds; the rest is left out")
    parser.add_argument("--accuracy", type=float, default=0.88, help="of the validation split")
    parser.add_argument("--quick", action="store_true", help="little work, as a check")
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables to FILE too"
    )
    parser.add_argument("overrides", nargs="*", help="options of train.py, such as data=demo")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device=cuda: torch finds no NVIDIA GPU; to check the script: --device cpu")
    if options.quick:
        options.models, options.sizes = ["gru"], [8]
        options.seconds, options.warmup = 0.02, 1
        options.overrides = ["trainer.max_epochs=1", *options.overrides]
    return options


def prepare(model: str, options: argparse.Namespace) -> RunConfig:
    """Return the options of train.py for `model`, all resolved on its texts."""
    trainer = "gpu" if options.device == "cuda" else "cpu"
    config = compose(model, options, trainer)
    data = load_data(config)
    resolved = resolve_recipe(config, data)
    return resolved.model_copy(update={"data": data.config})


def load_data(config: RunConfig) -> TextDataModule:
    """Return the encoded reviews."""
    data = TextDataModule(config.data, seed=config.seed, allow_fallback=True)
    data.setup()
    return data


def time_is_left(clock: Clock, what: str, late: list[str]) -> bool:
    """Return whether the deadline is ahead; else add `what` to `late`."""
    if time.perf_counter() < clock.deadline:
        return True
    late.append(what)
    return False


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


# Equality


def equality_cases(models: list[str]) -> Iterator[tuple[str, int, torch.dtype]]:
    """Yield models, directions and types."""
    for model in models:
        for directions in (1, 2):
            for dtype in WIDEST:
                yield model, directions, dtype


def equality_row(
    model: str, directions: int, dtype: torch.dtype, device: torch.device
) -> tuple[str, ...]:
    """Compare our logits and gradients with those of torch's packed layer; return a row."""
    torch.manual_seed(0)
    config = plain_model(model, 64, bidirectional=directions == 2)
    ours = RecurrentClassifier(config, 1000, num_classes=2)
    peer = TextbookClassifier(config, 1000, num_classes=2, reads="packed")
    peer.load_state_dict(dict(ours.named_parameters()))
    lengths = torch.randint(1, 60, (BATCH_SIZE,))
    tokens = torch.randint(2, 1000, (BATCH_SIZE, int(lengths.max())))
    tokens[torch.arange(tokens.shape[1]) >= lengths[:, None]] = 0
    labels = torch.randint(0, 2, (BATCH_SIZE,), device=device)
    results = []
    for network in (ours.to(device), peer.to(device)):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = network(tokens.to(device), lengths.to(device)).float()
        F.cross_entropy(logits, labels).backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        results.append(
            (logits, torch.cat([gradients[name].flatten() for name in sorted(gradients)]))
        )
    apart = [_relative(*pair) for pair in zip(*results, strict=True)]
    return (
        *(model, str(directions), str(dtype).removeprefix("torch.")),
        *(f"{one:.1e}" for one in apart),
        "yes" if max(apart) <= WIDEST[dtype] else "NO",
    )


def _relative(ours: Tensor, peers: Tensor) -> float:
    return float((ours - peers).norm() / peers.norm())


# Speed


class _StepClock(Callback):
    """Time the steps of a run after the warm-up, until its seconds have passed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps = self._reviews = 0
        self.rate = float("nan")  # reviews/s

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Start the clock after the warm-up, stop the run when it is over."""
        self._steps += 1
        if self._steps == self._clock.warmup:
            self._clock.start()
        elif self._steps > self._clock.warmup:
            self._reviews += len(batch.labels)
            if self._clock.is_over() and not trainer.should_stop:
                self._clock.stop()
                self.rate = self._reviews / self._clock.elapsed
                trainer.should_stop = True


def our_rate(config: RunConfig, data: TextDataModule, contender: str, clock: Clock) -> float:
    """Return reviews/s of train.py's training in the contender's precision."""
    hardware = Hardware(
        "gpu" if clock.device.type == "cuda" else "cpu",
        1,
        PRECISIONS[contender],  # type: ignore[arg-type]
    )
    steps = _StepClock(clock)
    # The clock ends the run, not its epochs; and nothing but training is on it.
    trainer_options = config.trainer.model_copy(
        update={"max_epochs": 1000, "limit_val_batches": 0, "max_steps": -1}
    )
    L.seed_everything(config.seed, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        module = TextClassifier(
            config.model, data.vocab_size, data.num_classes, config.optimizer, config.scheduler
        )
        kept = [c for c in build_callbacks(RunSpec(config, Path(folder))) if not _needs_val(c)]
        trainer = build_trainer(trainer_options, hardware, Path(folder), [], [*kept, steps])
        trainer.fit(module, datamodule=load_data(config))
    return steps.rate


def _needs_val(callback: Callback) -> bool:
    return isinstance(callback, L.pytorch.callbacks.Checkpoint | L.pytorch.callbacks.EarlyStopping)


def textbook_loader(data: TextDataModule) -> DataLoader[Any]:
    """Return a DataLoader over single reviews that shuffles and pads, as in a textbook."""
    split = data.splits["train"]
    reviews = [
        (
            torch.from_numpy(split.ids[start : start + min(length, MAX_LENGTH)].astype("int64")),
            label,
        )
        for start, length, label in zip(split.starts, split.lengths, split.labels, strict=True)
    ]

    def collate(batch: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
        lengths = torch.tensor([len(tokens) for tokens, _ in batch])
        padded = pad_sequence([tokens for tokens, _ in batch], batch_first=True)
        return padded, lengths, torch.tensor([int(label) for _, label in batch])

    return DataLoader(reviews, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate)  # type: ignore[arg-type]


def textbook_loop(
    model: nn.Module, loader: DataLoader[Any], device: torch.device, epochs: int | None = None
) -> Iterator[int]:
    """Train step by step; yield the number of reviews of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    passes = repeat(loader) if epochs is None else repeat(loader, epochs)
    for tokens, lengths, labels in chain.from_iterable(passes):
        optimizer.zero_grad()
        logits = model(tokens.to(device), lengths)
        F.cross_entropy(logits, labels.to(device)).backward()
        optimizer.step()
        yield len(labels)


def textbook_rate(config: RunConfig, data: TextDataModule, reads: Reads, clock: Clock) -> float:
    """Return reviews/s of the textbook loop."""
    torch.manual_seed(config.seed)
    model = TextbookClassifier(config.model, data.vocab_size, data.num_classes, reads=reads)
    steps = textbook_loop(model.to(clock.device), textbook_loader(data), clock.device)
    for _ in range(clock.warmup):
        next(steps)
    clock.start()
    reviews = next(steps)
    while not clock.is_over():
        reviews += next(steps)
    clock.stop()
    return reviews / clock.elapsed


class Rate(NamedTuple):
    """A measured speed."""

    model: str
    size: int
    contender: str
    reviews_per_second: float
    memory: int  # bytes of the GPU at its peak; 0 on a CPU


def contenders(
    config: RunConfig, data: TextDataModule, clock: Clock
) -> dict[str, Callable[[], float]]:
    """Return what measures reviews/s, by contender."""
    found = {name: partial(our_rate, config, data, name, clock) for name in PRECISIONS}
    return found | {  # type: ignore[return-value]
        PACKED: partial(textbook_rate, config, data, "packed", clock),
        PADDED: partial(textbook_rate, config, data, "padded", clock),
    }


def measure_rates(
    options: argparse.Namespace,
    data: TextDataModule,
    device: torch.device,
    clock: Clock,
    late: list[str],
) -> list[Rate]:
    """Measure every contender, model and size."""
    rates = []
    for size in options.sizes:
        for model in options.models:
            resolved = prepare(model, options)
            config = resolved.model_copy(update={"model": plain_model(model, size)})
            for name, measure in contenders(config, data, clock).items():
                if not time_is_left(clock, f"{name} {model} {size}", late):
                    continue
                print(f"{model} {size}/{size} {name}", file=sys.stderr)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                rate = measure()
                memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
                rates.append(Rate(model, size, name, rate, memory))
    return rates


def rate_rows(rates: list[Rate]) -> Iterator[tuple[str, ...]]:
    """Yield the rows below HEADER."""
    packed = {(r.model, r.size): r.reviews_per_second for r in rates if r.contender == PACKED}
    for rate in rates:
        base = packed.get((rate.model, rate.size))
        yield (
            rate.model,
            f"{rate.size}/{rate.size}",
            rate.contender,
            "WRONG: after the padding" if rate.contender == PADDED else "correct",
            f"{rate.reviews_per_second:,.0f}",
            f"{rate.reviews_per_second / base:.1f}x" if base else "-",
            f"{rate.memory / 2**20:,.0f} MiB" if rate.memory else "-",
        )


def target_rows(rates: list[Rate]) -> Iterator[tuple[str, ...]]:
    """Yield the rows below TARGET_HEADER: ours, in its fastest precision, over packed."""
    found = {(r.model, r.size, r.contender): r.reviews_per_second for r in rates}
    for model, size in dict.fromkeys((r.model, r.size) for r in rates):
        ours = [found[model, size, n] for n in PRECISIONS if (model, size, n) in found]
        if ours and (packed := found.get((model, size, PACKED))):
            least = LEAST_OVER_PACKED if size in BAR_SIZES else 1.0
            ratio = max(ours) / packed
            what = f"{model.upper()} {size}/{size} over {PACKED}, end to end"
            yield what, f"{least:g}x", f"{ratio:.1f}x", "yes" if ratio >= least else "NO"


def equality_target(rows: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the row of equality below TARGET_HEADER."""
    equal = sum(row[-1] == "yes" for row in rows)
    bounds = ", ".join(f"{str(t).removeprefix('torch.')} {one:g}" for t, one in WIDEST.items())
    what = f"equal to packed (difference at most: {bounds})"
    met = "yes" if equal == len(rows) else "NO"
    return what, f"{len(rows)} cases", f"{equal} cases", met


# Time to accuracy


def measure_times(
    options: argparse.Namespace,
    data: TextDataModule,
    device: torch.device,
    clock: Clock,
    late: list[str],
) -> list[tuple[str, ...]]:
    """Return the rows below TIME_HEADER: ours and the packed textbook loop, on the first GRU."""
    model = "gru" if "gru" in options.models else options.models[0]
    config = prepare(model, options)
    rows = []
    if time_is_left(clock, "ours, time to accuracy", late):
        goal = Goal(options.accuracy, clock.deadline - time.perf_counter())
        accelerator: Any = "gpu" if device.type == "cuda" else "cpu"
        curve = race_ours(config, goal, "validation", accelerator)
        rows.append(_time_row(model, "ours", curve, options.accuracy))
    if time_is_left(clock, "textbook, time to accuracy", late):
        # The last minute is the profile's.
        until = clock.deadline - 60 if not options.quick else time.perf_counter() + 1
        curve = race_textbook(config, data, device, options.accuracy, until)
        rows.append(_time_row(model, PACKED, curve, options.accuracy))
    return rows


def race_textbook(
    config: RunConfig, data: TextDataModule, device: torch.device, goal: float, until: float
) -> list[tuple[float, float]]:
    """Train the packed textbook loop until `goal`; return seconds and validation accuracy."""
    torch.manual_seed(config.seed)
    model = TextbookClassifier(config.model, data.vocab_size, data.num_classes, reads="packed")
    model.to(device)
    batches, loader = list(data.val_dataloader()), textbook_loader(data)
    every, curve = test_every(len(loader)), []
    spent, started = 0.0, time.perf_counter()
    for step, _ in enumerate(textbook_loop(model, loader, device, config.trainer.max_epochs), 1):
        if step % every == 0:
            finish(device)
            spent += time.perf_counter() - started
            curve.append((spent, accuracy(model, batches)))
            if curve[-1][1] >= goal or time.perf_counter() > until:
                break
            started = time.perf_counter()
    return curve


def _time_row(
    model: str, contender: str, curve: list[tuple[float, float]], goal: float
) -> tuple[str, ...]:
    reached = next((seconds for seconds, tested in curve if tested >= goal), None)
    at, best = max(curve, key=lambda point: point[1])
    return (
        *(model, contender, f"{100 * goal:g} %"),
        f"{reached:,.1f} s" if reached is not None else f"not in {curve[-1][0]:,.1f} s",
        *(f"{100 * best:.2f} %", f"{at:,.1f} s"),
    )


# Where the time goes


def profile_rows(
    options: argparse.Namespace, data: TextDataModule, clock: Clock
) -> list[tuple[str, ...]]:
    """Return the rows below PROFILE_HEADER for ours and the packed textbook loop."""
    model, size = options.models[0], options.sizes[0]
    config = prepare(model, options).model_copy(update={"model": plain_model(model, size)})
    on_gpu = clock.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    rows: list[tuple[str, ...]] = []
    for name in (OURS_BF16, PACKED):
        profiler = profile(activities=activities, acc_events=True)
        profiled = replace(clock, seconds=min(clock.seconds, 1.0), profiler=profiler)
        contenders(config, data, profiled)[name]()
        times = operation_times(profiler, on_gpu)
        total = sum(times.values())
        what = "(GPU busy, of the wall time)" if on_gpu else "(operations, of the wall time)"
        rows.append((name, what, f"{100 * total / profiled.elapsed:.0f} %"))
        for key in sorted(times, key=lambda key: -times[key])[:8]:
            rows.append((name, key[:60], f"{100 * times[key] / total:.0f} %"))
    return rows


def operation_times(profiler: profile, on_gpu: bool) -> dict[str, float]:
    """Return the seconds of each kernel of the GPU, or of each operation of the CPU by itself."""
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    times: dict[str, float] = {}
    for event in profiler.key_averages():
        # The launching operations have the time of their kernels too, annotations that of all.
        if event.device_type == kind and not (on_gpu and event.is_user_annotation):
            spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            times[event.key] = times.get(event.key, 0.0) + spent / 1e6
    return times


def describe_device(device: torch.device) -> str:
    """Return the device and the versions in one line."""
    if device.type == "cpu":
        return describe_machine(num_threads())
    properties = torch.cuda.get_device_properties(device)
    return (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, "
        f"cuDNN {torch.backends.cudnn.version()}, {num_threads()} CPU cores, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
