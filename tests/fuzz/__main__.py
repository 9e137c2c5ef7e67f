"""`python -m tests.fuzz TARGET [run=FOLDER] [OPTION OF LIBFUZZER ...]`, where atheris is installed.

Targets: read, tokenize, unpack, and predict, which needs the folder of a finished run. Example:
`python -m tests.fuzz read -max_total_time=300`. What fails is written into the working folder,
unless `-artifact_prefix=<folder>/` names another.
"""

import sys
import tempfile
from pathlib import Path

import atheris  # not among the requirements: pip install atheris


def main() -> None:
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["rnn_lab", "tarfile", "gzip", "json"]):
        from tests.fuzz import targets
        from tests.fuzz.seeds import SEEDS
    if name == "predict":
        run = next(option for option in options if option.startswith("run="))
        options.remove(run)
        target = targets.predict_with(Path(run.removeprefix("run=")))
    else:
        target = getattr(targets, name)
    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))  # atheris ends without a clean-up
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
