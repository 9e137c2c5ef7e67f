"""The Python interface: train a run or load one, predict, explain. `import rnn_lab` exports it.

The examples below use `path`, an exported run with the classes "neg" and "pos".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from rnn_lab.data.readers.labels import label_text
from rnn_lab.data.readers.lines import decoding_error
from rnn_lab.data.readers.records import Record
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.inference.batch_predict import RowPrediction, predict_rows
from rnn_lab.inference.ensemble import Ensemble
from rnn_lab.inference.predictor import Predictor
from rnn_lab.inference.run_loader import load_runs
from rnn_lab.validation import check_iterable

if TYPE_CHECKING:
    import torch

    from rnn_lab.inference.explanation import Explanation


@dataclass(frozen=True)
class Prediction:
    """The label or labels of one text, and the probability of every class.

    A model for texts with any number of labels predicts `labels`, perhaps none, by the threshold of
    each. Its `label` is the most probable one even so.

    >>> import rnn_lab
    >>> prediction = rnn_lab.Prediction("pos", {"neg": 0.25, "pos": 0.75})
    >>> prediction.label, prediction.probabilities["pos"]
    ('pos', 0.75)
    """

    label: str
    probabilities: dict[str, float]  # in the order of Model.class_names
    labels: tuple[str, ...] | None = None  # in the same order; by default (label,)

    def __post_init__(self) -> None:
        if self.labels is None:
            object.__setattr__(self, "labels", (self.label,))


class Model:
    """A trained text classifier, ready to predict; `rnn_lab.load` returns one."""

    def __init__(self, loaded: Predictor) -> None:
        self._loaded = loaded

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes.

        >>> rnn_lab.load(path).class_names
        ('neg', 'pos')
        """
        return self._loaded.class_names

    def __repr__(self) -> str:
        """Return the architecture, how many an ensemble has, and where it comes from."""
        loaded, classes = self._loaded, ", ".join(self.class_names)
        several = f"ensemble of {len(loaded.members)} " if isinstance(loaded, Ensemble) else ""
        return f"<rnn_lab.Model {several}{loaded.cell} [{classes}] {loaded.path}>"

    def predict(self, texts: Iterable[str], *, batch_size: int = 256) -> list[Prediction]:
        """Return the prediction of each text, in order.

        Apart from rounding, the probabilities of a text do not depend on the other texts or on the
        batch size. `stream` is for more texts than fit into memory.

        A column may have empty cells: an empty text is read as one unknown word, and its prediction
        says nothing but what the model prefers. `explain`, the commands, the server and `train`
        refuse it.

        >>> model = rnn_lab.load(path)
        >>> good, bad = model.predict(["a good film", "not good at all"])
        >>> list(good.probabilities)
        ['neg', 'pos']
        >>> round(sum(bad.probabilities.values()), 5)
        1.0

        Args:
            texts: any iterable of strings: a list, a generator, a column of a data frame.
            batch_size: texts per batch.

        Raises:
            TypeError: `texts` is a single string, a table or no iterable, or has an item that is
                not a string; or `batch_size` is not an integer.
            DataError: a text is not valid Unicode, has a NUL character or is too long; names its
                position.
            ConfigError: `batch_size` is not positive.
        """
        return list(self.stream(texts, batch_size=batch_size))

    def stream(self, texts: Iterable[str], *, batch_size: int = 256) -> Iterator[Prediction]:
        """Yield the prediction of each text, in order; read at most 4096 texts ahead.

        >>> model = rnn_lab.load(path)
        >>> endless = ("a good film" for _ in iter(int, 1))
        >>> next(model.stream(endless)).label == model.predict(["a good film"])[0].label
        True

        Args and errors are those of `predict`.
        """
        check_iterable(texts, "texts")
        if isinstance(batch_size, bool) or not isinstance(batch_size, SupportsIndex):
            raise TypeError(f"batch_size={batch_size!r}: is not an integer")
        if index(batch_size) < 1:
            raise ConfigError(f"batch_size={batch_size}: is not positive")
        records = (Record(i, _checked(text, i), None) for i, text in enumerate(texts))
        return map(self._prediction, predict_rows(self._loaded, records, index(batch_size)))

    def _prediction(self, row: RowPrediction) -> Prediction:
        assert row.probabilities is not None  # only a BadRow has none
        probabilities = dict(zip(self.class_names, row.probabilities.tolist(), strict=True))
        label = self.class_names[int(row.probabilities.argmax())]
        return Prediction(label, probabilities, row.labels)

    def explain(self, text: str, *, label: str | float | None = None) -> "Explanation":
        """Explain the prediction for one text.

        >>> explanation = rnn_lab.load(path).explain("not good at all")
        >>> [word.text for word in explanation.words]
        ['not', 'good', 'at', 'all']
        >>> explanation.prediction == max(
        ...     explanation.probabilities, key=explanation.probabilities.get
        ... )
        True
        >>> explanation.save(folder).name
        'explanation.html'

        Args:
            text: to explain.
            label: the class to explain, predicted or not, as `train` takes labels: 1 is "1"; None:
                the most probable one.

        Returns:
            the prediction, the attribution of each word, the probabilities after each token, and
            every gate and state. `save(folder)` writes a page with plots.

        Raises:
            TypeError: `text` is not a string, or `label` is of a type that no label has.
            DataError: the text is empty, not valid Unicode or too long, or has a NUL character.
            ConfigError: there is no class `label`, or the model only predicts: an .onnx file, or
                an ensemble.
        """
        text = _checked(text, 0)
        if not text.strip():
            raise DataError("text: is empty")
        try:
            name = label if label is None or isinstance(label, str) else label_text(label)
        except TypeError as error:
            raise TypeError(f"label: {error}") from None
        return self._loaded.explain(text, name)


def train(
    texts: Iterable[Any],
    labels: Iterable[Any],
    *,
    validation: tuple[Iterable[Any], Iterable[Any]] | None = None,
    test: tuple[Iterable[Any], Iterable[Any]] | None = None,
    class_names: Sequence[Any] | None = None,
    on_bad_lines: Literal["error", "skip"] = "error",
    output_dir: str | Path | None = None,
    overrides: Iterable[str] = (),
    device: "str | torch.device" = "auto",
) -> Model:
    """Train, test and report a run as the command `rnn-lab train` does; return its best model.

    >>> texts = [f"a {word} film" for word in ("good", "bad", "fine", "poor") * 10]
    >>> labels = ["pos", "neg"] * 20
    >>> tiny = ["logger=none", "plots=false", "trainer.max_epochs=1", "model.hidden_size=4"]
    >>> quiet = ["trainer.enable_progress_bar=false", f"paths.cache_dir={folder}/cache"]
    >>> model = rnn_lab.train(
    ...     texts, labels, output_dir=folder / "mine", overrides=["model=lstm", *tiny, *quiet]
    ... )  # doctest: +ELLIPSIS
    Texts: train ...
    >>> model.class_names
    ('neg', 'pos')
    >>> (folder / "mine" / "result.json").exists()
    True

    The folder is that of any run: `load` and the commands accept it. An interrupted run resumes
    when the same call is repeated; a finished one is refused, so `load` it. The texts are stored in
    `data.cache_dir`.

    Training seeds the default random generators of Python, NumPy and torch, so trainings in several
    threads run one after the other. It leaves environment variables of Lightning and cuBLAS
    (PL_GLOBAL_SEED, CUBLAS_WORKSPACE_CONFIG) and filters of Lightning's warnings.

    Args:
        texts: strings: a list, a column of pandas or Polars, any iterable.
        labels: one for each text. Where a text has any number of labels: a list of them for each
            text, or a data frame with one column of 0 and 1 a label.
        validation: texts and labels to validate on; None: split off.
        test: texts and labels to test on; None: a fifth of `texts` is split off.
        class_names: the labels in the order you want; None: sorted.
        on_bad_lines: "error", or "skip" for rows that cannot be used.
        output_dir: the folder of the run; None: runs/<date>/<time>_<model>_seed<seed>.
        overrides: options as on the command line: ["model=lstm", "trainer.max_epochs=3"].
        device: of the returned model; `trainer.accelerator` is that of the training.

    Raises:
        TypeError: texts, labels, class_names or overrides are a single string or no iterable, or
            `validation` or `test` is not a pair.
        DataError: a row cannot be used, or there are too few rows or classes.
        ConfigError: an override is unknown or impossible, this machine has no such device, or the
            default dtype of torch is not float32.
        OutputDirConflictError: `output_dir` has another run, or a finished one.
        UserError: as of the command; says what to do.
    """
    import torch

    from rnn_lab.data.sources.lists import corpus_from_lists
    from rnn_lab.inference.load import torch_device
    from rnn_lab.training.from_python import train_corpus

    if isinstance(overrides, str):
        raise TypeError(f"overrides is a single string; give a list of strings: [{overrides!r}]")
    is_iterable = isinstance(overrides, Iterable) and not isinstance(overrides, Mapping)
    given: list[Any] = list(overrides) if is_iterable else [overrides]
    if not all(isinstance(override, str) for override in given):
        raise TypeError("overrides: give a list of strings, such as ['model=lstm']")
    torch_device(str(device))  # not only once the model is trained
    if (dtype := torch.get_default_dtype()) != torch.float32:
        raise ConfigError(f"torch.set_default_dtype: is {dtype}; a run is trained in torch.float32")
    corpus = corpus_from_lists(
        texts,
        labels,
        validation=validation,
        test=test,
        class_names=class_names,
        on_bad_lines=on_bad_lines,
    )
    with torch.inference_mode(False):  # of the caller: training needs gradients
        folder = train_corpus(corpus, output_dir, given)
    return load(folder, device=device)


def load(
    run_or_file: str | Path | Iterable[str | Path], *, device: "str | torch.device" = "auto"
) -> Model:
    """Load a trained run. Nothing in its files is run or imported, so they may be untrusted.

    Of several runs, or the folder of a sweep, the model is their ensemble: its probabilities are
    the mean of theirs. It predicts, and does not explain.

    A run with a cell, pooling or tokenizer of a plugin needs that plugin: import it first. A data
    source, loss or schedule is used in training alone. Plugins that are installed packages are
    imported here.

    >>> import rnn_lab
    >>> model = rnn_lab.load(path)
    >>> model.class_names
    ('neg', 'pos')

    Args:
        run_or_file: a run folder, its result.json, or a .ckpt, .safetensors or .onnx file. The
            last needs the packages onnx and onnxruntime, is read without torch, and only predicts.
            Or a list of them, or the folder of a sweep.
        device: "auto" (the fastest one available), "cpu", "cuda" or "mps", or such a torch.device.

    Raises:
        TypeError: `run_or_file` is neither a path nor a list of them.
        CheckpointError: there is no such run, or it cannot be used; the message says why.
        ConfigError: this machine has no such device, or several runs have different classes.
    """
    given: Any = run_or_file
    runs = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if not all(isinstance(run, str | Path) for run in runs):
        raise TypeError(
            f"run_or_file: give a path or a list of paths, not a {type(given).__name__}"
        )
    return Model(load_runs(runs, str(device)))


def _checked(text: object, position: int) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text {position} is not a string: {type(text).__name__}")
    if (reason := decoding_error(text, None)) is not None:
        raise DataError(f"text {position}: {reason}")
    return text
