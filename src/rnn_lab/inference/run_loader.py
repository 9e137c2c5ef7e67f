"""Load finished runs to predict with, of torch or as .onnx files: one, or an ensemble of several.

torch takes seconds to import: that is left to the first run that needs it. A program that starts
with it calls these functions within `fast_imports`.
"""

from dataclasses import replace

from rnn_lab.errors import ConfigError
from rnn_lab.inference.ensemble import Ensemble
from rnn_lab.inference.predictor import FLOAT32, Predictor, SingleModel
from rnn_lab.plugins import load_plugins, require_extra
from rnn_lab.process import num_threads
from rnn_lab.runs.jobs import Runs, list_runs
from rnn_lab.runs.run_folder import find_checkpoint, is_onnx_file


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
    loaded = replace(load_model(run, device), precision=precision)
    # numba takes a second to import: too long for one text.
    loaded.model.recurrent.use_numba = not for_one_text
    return loaded
