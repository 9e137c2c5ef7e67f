"""Label many files, or a shard of them: one output a file, and none twice after a restart."""

import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rnn_lab import __version__
from rnn_lab.errors import ConfigError, DataError, UserError, WriteError, sanitize
from rnn_lab.inference.config import PredictOptions
from rnn_lab.inference.labelling import Counts, check_output_file, label_rows, output_lock
from rnn_lab.inference.predict_plan import RECORDS, WHOLE, Part, Plan
from rnn_lab.inference.run_loader import LazyRun
from rnn_lab.inference.shards import Shard, rows_of_shard
from rnn_lab.io.atomic import check_writable, read_json, write_json
from rnn_lab.io.locks import locked
from rnn_lab.runs.run_folder import find_checkpoint

if TYPE_CHECKING:
    from rnn_lab.inference.predictor import Predictor

LISTED = 20  # files that a message names
_ROWS = re.compile(r"(.*)-[0-9]{5,}-of-[0-9]{5,}(\.[a-z]+)")
# Options on which no prediction depends.
_NOT_RECORDED = {
    *("run", "input", "output", "shard", "engine", "num_workers", "overwrite", "device"),
    "batch_size",
}


class PartResult(NamedTuple):
    """The result of a part: labelled by this process or earlier, or an error."""

    part: Part
    status: Literal["labelled", "finished", "failed"]
    error: str = ""


def predict_files(run: LazyRun) -> None:
    """Label the files of the option `input`, or those of its shard, one after the other.

    Finished outputs are skipped. A file that cannot be read is reported at once, and again at the
    end; the others are labelled.

    Raises:
        UserError: the options, the run or the output folder cannot be used, or a file failed.
    """
    options = run.options
    shard = WHOLE if options.shard is None else Shard.parse(options.shard)
    plan, labeller = Plan.of(options, shard.count), Labeller(run)
    labeller.check_run()
    check_writable(plan.folder, "output")
    with locked_shard(plan, options, shard):
        _announce(plan, shard)
        report([labeller.label(part) for part in plan.parts_of(shard)])


def _file_digest(run: str) -> Any:
    path = find_checkpoint(run, or_onnx=True)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise ConfigError(f"run={run}: cannot be read: {error.strerror}") from None


@dataclass
class Labeller:
    """A model that labels parts, loaded at the first that is not finished."""

    run: LazyRun
    _listed: dict[Path, "_Listing"] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """The hash of each model's file and of the options that change predictions."""
        digests = sorted(map(_file_digest, self.run.runs), key=lambda d: d.digest())
        digest = digests[0]
        for other in digests[1:]:
            digest.update(other.digest())
        chosen = self.run.options.model_dump(mode="json", exclude=_NOT_RECORDED)
        digest.update(json.dumps([__version__, chosen], sort_keys=True).encode())
        return digest.hexdigest()

    def check_run(self) -> None:
        """Read the files of the models: a missing one is reported before anything is written.

        Raises:
            UserError: one is missing or cannot be read.
        """
        _ = self.fingerprint

    def label(self, part: Part) -> PartResult:
        """Write the predictions of a part, unless they are there.

        Raises:
            UserError: the run cannot be loaded, or the output folder cannot be written.
        """
        fingerprint = self.fingerprint
        if part.is_done(fingerprint):
            return PartResult(part, "finished")
        predictor = self.run.predictor  # an error of the run is one of all parts
        part.output.parent.mkdir(parents=True, exist_ok=True)
        try:
            with locked(output_lock(part.output), str(part.output)):
                if part.is_done(fingerprint):  # by the process that had the lock
                    return PartResult(part, "finished")
                try:
                    self._check_output(part)
                    counts = self._label(predictor, part)
                except (DataError, ConfigError) as error:
                    part.write_failure(error)
                    raise
                part.write_record(fingerprint, counts)
        except WriteError:
            raise
        except UserError as error:
            print(sanitize(str(error), 1000), file=sys.stderr)
            return PartResult(part, "failed", str(error))
        return PartResult(part, "labelled")

    def _label(self, predictor: "Predictor", part: Part) -> Counts:
        source = part.file.path
        reader = self.run.reader(source)
        rows = iter(reader) if part.rows == WHOLE else rows_of_shard(reader, source, part.rows)
        first = next(rows, None)  # an unreadable file is reported before anything is written
        rows = chain([] if first is None else [first], rows)
        return label_rows(
            predictor,
            reader,
            rows,
            self.run.options,
            sanitize(str(source)),
            str(part.output),
            prefix=f"{part}: ",
            all_may_be_bad=part.rows != WHOLE,
        )

    def _check_output(self, part: Part) -> None:
        """Remove what a killed process left, and make sure that no row gets a second output."""
        folder, name = part.output.parent, part.output.name
        if folder not in self._listed:
            self._listed[folder] = _Listing.of(folder)
        listed = self._listed[folder]
        for partial in listed.partials.pop(name, ()):
            (folder / partial).unlink(missing_ok=True)
        whole = f"{Path(part.file.name).name}{part.ending}"
        for other in listed.rows.get(whole, ()):
            if part.rows == WHOLE or not other.endswith(f"-of-{part.rows.count:05d}{part.ending}"):
                raise ConfigError(
                    f"{part.output}: {other} has the rows of another number of shards; delete "
                    "those files, or choose another folder"
                )
        if part.rows != WHOLE and (folder / whole).exists():
            raise ConfigError(
                f"{part.output}: {whole} has all rows already; delete it, or choose another folder"
            )
        check_output_file(part.output, str(part.output), overwrite=self.run.options.overwrite)


def report(results: Iterable[PartResult]) -> None:
    """Print how many files were labelled.

    Raises:
        DataError: some failed; lists them.
    """
    found: dict[str, list[PartResult]] = defaultdict(list)
    for result in results:
        found[result.status].append(result)
    total = sum(map(len, found.values()))
    line = f"{len(found['labelled']):,} of {total:,} files labelled"
    if found["finished"]:
        line += f", {len(found['finished']):,} finished before"
    print(line, file=sys.stderr)
    raise_failures([(result.part, result.error) for result in found["failed"]], total)


def raise_failures(failures: Sequence[tuple[Part, str]], total: int) -> None:
    """Raise a DataError that lists the parts and why they failed, if there are any."""
    if not failures:
        return
    lines = [f"{len(failures):,} of {total:,} files are not labelled:"]
    for part, error in failures[:LISTED]:
        named = error if str(part.file.path) in error else f"{part}: {error}"
        lines.append(f"  {sanitize(named, 1000)}")
    if len(failures) > LISTED:
        lines.append(f"  and {len(failures) - LISTED:,} more")
    raise DataError("\n".join(lines))


@contextmanager
def locked_shard(plan: Plan, options: PredictOptions, shard: Shard) -> Iterator[None]:
    """Let one process at a time label a shard."""
    name = "all" if shard == WHOLE else f"{shard.index}-of-{shard.count}"
    what = f"output={options.output}" if options.shard is None else f"shard={shard}"
    with locked(plan.folder / RECORDS / f"{name}.lock", what):
        yield


def _announce(plan: Plan, shard: Shard) -> None:
    """Print how much the shard has to do, and what its user should know of the others."""
    if shard == WHOLE:
        return
    parts, folder = plan.parts_of(shard), plan.folder / RECORDS / "shards"
    share = f"{len(parts):,} of {len(plan.parts):,} files"
    if parts and parts[0].rows != WHOLE:
        share = f"1/{shard.count} of the rows of {parts[0].file.path}"
    print(f"shard {shard}: {share}", file=sys.stderr)
    if shard.index == 0 and (hint := plan.describe_uneven()):
        print(hint, file=sys.stderr)
    write_json(folder / f"{shard.file_name}.json", {"input": plan.fingerprint})
    if others := _shards_of_other_input(plan, shard.count, folder):
        listed = ", ".join(map(str, others[:LISTED]))
        print(
            f"warning: the input has changed since shard {listed} started: run those again, or "
            "some files may have no output",
            file=sys.stderr,
        )


def _shards_of_other_input(plan: Plan, count: int, folder: Path) -> list[Shard]:
    found = []
    for shard in (Shard(index, count) for index in range(count)):
        started = read_json(folder / f"{shard.file_name}.json")
        if started is not None and started.get("input") != plan.fingerprint:
            found.append(shard)
    return found


class _Listing(NamedTuple):
    """The names of the files that a folder has of an output, by the name of the output."""

    partials: dict[str, list[str]]  # that a process is writing, or was when it was killed
    rows: dict[str, list[str]]  # that have the rows of one shard each

    @classmethod
    def of(cls, folder: Path) -> "_Listing":
        """List `folder`."""
        found = cls(defaultdict(list), defaultdict(list))
        for entry in folder.iterdir():
            name = entry.name
            if name.startswith(".") and name.endswith(".partial"):
                found.partials[name[1:].rsplit(".", 2)[0]].append(name)
            elif rows := _ROWS.fullmatch(name):
                found.rows[f"{rows[1]}{rows[2]}"].append(name)
        return found
