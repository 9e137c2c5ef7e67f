"""Load finished runs to predict with, of torch or as .onnx files: one, or an ensemble of several.

torch takes seconds to import: that is left to the first run that needs it. A program that starts
with it calls these functions within `fast_imports`.
"""

import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rnn_lab.data.readers.records import ReadInfo, RecordReader
from rnn_lab.errors import ConfigError
from rnn_lab.fast_import import fast_imports
from rnn_lab.inference.ensemble import Ensemble
from rnn_lab.inference.predictor import FLOAT32, Predictor, SingleModel
from rnn_lab.inference.recorded import recorded_read_info
from rnn_lab.plugins import load_plugins, require_extra
from rnn_lab.process import num_threads
from rnn_lab.runs.jobs import Runs, list_runs
from rnn_lab.runs.run_folder import find_checkpoint, is_onnx_file

if TYPE_CHECKING:
    from rnn_lab.inference.config import PredictOptions


class LazyRun:
    """The run of `options`, or the ensemble of several, loaded when it is first needed."""

    def __init__(self, options: "PredictOptions") -> None:
        self.options = options

    @cached_property
    def predictor(self) -> Predictor:
        """The model; the number of members of an ensemble is printed."""
        options = self.options
        with fast_imports():
            loaded = load_runs(
                options.run,
                options.device,
                precision=options.precision,
                for_one_text=options.input is None,
            )
        if isinstance(loaded, Ensemble):
            print(f"The mean of {len(loaded.members)} runs", file=sys.stderr)
        return loaded

    @cached_property
    def runs(self) -> list[str]:
        """The run, or those of the ensemble."""
        return list_runs(self.options.run)

    @cached_property
    def read_info(self) -> ReadInfo | None:
        """How the training texts of the first run were read; a result.json has it unloaded."""
        return self._read_info(self.runs[0])

    def _read_info(self, run: str) -> ReadInfo | None:
        is_recorded, info = recorded_read_info(run)
        return info if is_recorded else self.predictor.read_info

    @cached_property
    def reads_whole_files(self) -> bool:
        """Whether a text file is one text, by option or as those that every run was trained on."""
        if self.options.one_text_per != "auto":
            return self.options.one_text_per == "file"
        infos = map(self._read_info, self.runs)
        return all(info is not None and info.whole_files for info in infos)

    def reader(self, source: str | Path | BinaryIO) -> RecordReader:
        """Return a reader of an input.

        The columns of the text and the encoding are those of the training texts, where the input
        has them and no option says otherwise.
        """
        options = self.options.read_options(whole_files=self.reads_whole_files)
        return RecordReader(source, options, labelled=False, like=self.read_info)


def load_runs(
    runs: Runs, device: str, *, precision: str = FLOAT32, for_one_text: bool = False
) -> Predictor:
    """Load one run, or the ensemble of several or of the folder of a sweep; see `load_run`.

    Raises:
        ConfigError: two of them cannot be combined, or as of `load_run`.
        CheckpointError: as of `list_runs` and `load_run`.
    """
    members = [
        load_run(run, device, precision=precision, for_one_text=for_one_text)
        for run in list_runs(runs)
    ]
    return members[0] if len(members) == 1 else Ensemble(members)


def load_run(
    run: str, device: str, *, precision: str = FLOAT32, for_one_text: bool = False
) -> SingleModel:
    """Load a run folder, its result.json, or a .ckpt, .safetensors or .onnx file.

    Args:
        run: may be untrusted.
        device: "auto", "cpu", "cuda" or "mps"; of an .onnx file, one of the first two.
        precision: of the matrix products, FLOAT32 or BFLOAT16.
        for_one_text: load what is ready first for a single text, not what labels most in a second.

    Raises:
        ConfigError: this machine has no such device, an extra is missing, or an .onnx file is to
            compute in another precision than float32.
        CheckpointError: there is no such run, or it cannot be used.
    """
    if is_onnx_file(run):
        if precision != FLOAT32:
            raise ConfigError(
                f"precision={precision}: an .onnx file computes in float32. Choose from: {FLOAT32}"
            )
        require_extra("onnx", f"run={run}")
        from rnn_lab.inference.onnx_model import load_onnx

        return load_onnx(run, device, threads=1 if for_one_text else num_threads())
    find_checkpoint(run, or_onnx=True)  # a missing one is reported before torch is imported
    from rnn_lab.inference.load import load_model

    load_plugins(())  # those of installed packages: a run may have a cell of theirs
    # numba takes a second to import: too long for one text.
    return load_model(run, device, precision=precision, use_numba=not for_one_text)
