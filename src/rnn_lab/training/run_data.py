"""The texts of a run: built from its options, read and reported."""

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.training.artifacts import is_demo_fallback
from rnn_lab.training.data_report import report_data, warn_demo_fallback
from rnn_lab.training.hardware import Hardware
from rnn_lab.training.initial_weights import initial_vocabulary
from rnn_lab.training.reproduce import check_same_data
from rnn_lab.training.saved_run import SavedRun
from rnn_lab.training.spec import RunSpec
from rnn_lab.training.teacher import load_teacher, warn_of_teacher_texts


def load_data(spec: RunSpec, hardware: Hardware, saved: SavedRun | None) -> TextDataModule:
    """Return the data of a run, ready to be read; warn about what a user would want to know.

    Raises:
        DataError: the texts cannot be read, or are not those of the run to reproduce.
        CheckpointError: model.init_from or data.teacher is not a run.
    """
    config = spec.config
    data = build_data(spec, hardware, saved)
    data.setup()
    if is_demo_fallback(config, data):
        warn_demo_fallback()
    report_data(spec, data)
    warn_of_teacher_texts(data)
    if config.reproduce is not None:
        check_same_data(config.reproduce, data)
    return data


def build_data(spec: RunSpec, hardware: Hardware, saved: SavedRun | None) -> TextDataModule:
    """Return the data module of a run that resumes the `saved` one; it has not read its texts yet.

    Whoever needs to know what `auto` means builds this one: it depends on the vocabulary, and on
    how many texts the teacher labels.

    Raises:
        CheckpointError: model.init_from or data.teacher is not a run.
    """
    config = spec.config
    vocabulary = None
    origins = (config.model.init_from, config.data.vectors, config.data.unlabelled)
    if any(origin is not None for origin in origins):  # which need not be there any more
        vocabulary = None if saved is None else saved.vocabulary
    return TextDataModule(
        config.data,
        seed=config.seed,
        allow_fallback=spec.sweep is None,
        vocabulary=vocabulary,
        base_vocabulary=initial_vocabulary(config.model) if vocabulary is None else None,
        use_labels=not config.is_language_model,
        train_unlabelled=config.train and config.loss.needs_no_labels,
        teacher=load_teacher(config, hardware),
    )
