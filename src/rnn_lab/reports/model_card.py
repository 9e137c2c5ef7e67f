"""The model card of an exported file, in Markdown: what it is, what it was measured on, its limits.

After Mitchell et al. (2019), "Model Cards for Model Reporting". Everything in it is taken from the
run's result.json and from the file, so it says what is known and nothing else. Both may come from
anyone: names are escaped, and a value of another type than expected is left blank.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rnn_lab.errors import listed, sanitize
from rnn_lab.models.metric_table import MULTICLASS, MULTILABEL
from rnn_lab.reports.formatting import (
    ALL_METRIC_NAMES,
    METRIC_NAMES,
    SPLIT_NAMES,
    format_cell,
    format_count,
    format_metric,
    format_percent,
    order_metrics,
    threshold_note,
)
from rnn_lab.reports.run_summary import baseline_metrics, is_worse
from rnn_lab.runs.untrusted import get_group, get_number

MARK = "<!-- model card of rnn-lab export -->"  # the first line of a card
_MAX_CLASSES = 50  # that are listed
_OPTIONS = ("embedding_dim", "hidden_size", "num_layers", "bidirectional", "pooling", "ngrams")
_UNKNOWN_TERMS = (
    "The licence of these texts is not known to the run: add it here before you publish the file."
)
_Result = Mapping[str, Any]


@dataclass(frozen=True)
class ExportedFile:
    """What an exported file says of itself."""

    name: str
    num_bytes: int
    sha256: str
    cell: str
    class_names: Sequence[str]
    temperature: float  # that calibrates its probabilities; 1.0: they are not calibrated
    thresholds: Sequence[float] | None  # of each label, where a text has any number of them
    tokenizer: str
    vocab_size: int
    max_length: int
    truncation_side: str
    compared: str | None = None  # how it compares with the run; None: it is the run to the bit


def model_card(file: ExportedFile, result: _Result | None) -> str:
    """Return the card of `file`, whose run has this result.json; None: it has none."""
    sections = [_head(file, result), _data(file, result), _metrics(file, result)]
    sections += [_limits(file, result), _usage(file), _origin(file, result)]
    return MARK + "\n" + "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head(file: ExportedFile, result: _Result | None) -> Iterator[str]:
    model = get_group(result, "model")
    kind = "bidirectional " if model.get("bidirectional") is True else ""
    kind += format_cell(file.cell)
    yield f"# {_text(file.name)}: a text classifier ({_text(kind)})"
    yield ""
    several = "any number of" if file.thresholds is not None else "one of"
    yield f"It gives a text {several} {len(file.class_names)} labels. Trained with RNN Lab."
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    names = [_text(f"“{name}”" if "," in name else name) for name in file.class_names]
    yield f"| classes | {listed(names, _MAX_CLASSES)} |"
    options = [f"`{name}={_code(model[name])}`" for name in _OPTIONS if name in model]
    yield f"| model | {_text(format_cell(file.cell))}{': ' if options else ''}{' '.join(options)} |"
    if (parameters := get_number(model.get("parameters"))) is not None:
        yield f"| parameters | {parameters:,.0f} |"
    yield f"| tokenizer | `{_code(file.tokenizer)}`, {file.vocab_size:,} ids |"
    yield f"| file | {file.num_bytes:,} bytes, SHA-256 `{file.sha256}` |"
    if file.compared is not None:
        yield f"| checked | {_text(file.compared)} |"


def _data(file: ExportedFile, result: _Result | None) -> Iterator[str]:
    yield "## Data"
    yield ""
    data = get_group(result, "data")
    if not data:
        yield "Unknown: the file was not exported from the folder of a finished run."
        return
    synthetic = " (synthetic: no one wrote these texts)" if _get_any(result, "synthetic") else ""
    yield f"`{_code(data.get('name'))}`{synthetic}."
    if not synthetic:
        terms = data.get("terms")
        yield _text(terms if isinstance(terms, str) and terms else _UNKNOWN_TERMS)
    yield ""
    yield "| split | texts | median length | longest | unknown tokens | truncated texts |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    statistics = get_group(data, "texts")
    for split, texts in get_group(data, "num_examples").items():
        found = get_group(statistics, split)
        lengths = (_count(found.get(name)) for name in ("median_length", "max_length"))
        shares = (_share(found.get(name)) for name in ("unknown", "truncated"))
        yield f"| {_text(split)} | {_count(texts)} | {' | '.join((*lengths, *shares))} |"
    yield ""
    yield "Lengths are in tokens."
    if (skipped := get_number(data.get("num_skipped"))) is not None and skipped > 0:
        yield f"{format_count(int(skipped), 'row')} of the files could not be used."
    pseudo = get_number(get_group(data, "pseudo_labels").get("num_examples"))
    if pseudo is not None:
        yield (
            f"Beside the training split it was trained on {format_count(int(pseudo), 'text')} with "
            "labels that another run had predicted."
        )


def _metrics(file: ExportedFile, result: _Result | None) -> Iterator[str]:
    yield "## Metrics"
    yield ""
    names = order_metrics(result or {})
    if result is None or not names:
        yield "Unknown: there is no `result.json` of a finished run beside the checkpoint."
        return
    known = METRIC_NAMES[MULTICLASS if file.thresholds is None else MULTILABEL]
    baselines = baseline_metrics(result)
    columns = ["this model", *baselines]
    yield f"| split | metric | {' | '.join(columns)} |"
    yield f"| --- | --- |{' ---: |' * len(columns)}"
    for name in names:
        split, _, metric = name.partition("/")
        values = (_metric(name, found.get(name)) for found in (result, *baselines.values()))
        label = _text(known.get(metric, metric))
        yield f"| {SPLIT_NAMES[split]} | {label} | {' | '.join(values)} |"
    if note := threshold_note(result):
        yield ""
        yield note
    per_class = get_group(result, "per_class")
    if per_class and len(per_class) <= _MAX_CLASSES:
        yield ""
        threshold = " threshold |" if file.thresholds is not None else ""
        yield f"| class, in the test split |{threshold} precision | recall | F1 | texts |"
        yield f"| --- |{' ---: |' if threshold else ''} ---: | ---: | ---: | ---: |"
        for name in per_class:
            scores = get_group(per_class, name)
            cells = [_share(scores.get(key)) for key in ("precision", "recall", "f1")]
            if threshold:
                cells.insert(0, _share(get_group(result, "thresholds").get(name)))
            yield f"| {_text(name)} | {' | '.join(cells)} | {_count(scores.get('support'))} |"


def _limits(file: ExportedFile, result: _Result | None) -> Iterator[str]:
    yield "## Limits"
    yield ""
    if result is None:
        yield "- Nothing is known of how well it labels texts."
    else:
        yield (
            "- The metrics are those of texts like its training texts. Texts of another source, "
            "subject, language or time can give others: test it on texts of your own."
        )
        if not any(name.startswith("test/") for name in result):
            yield (
                "- There is no test split. The validation metrics chose the epoch that was kept, "
                "so those of new texts are lower."
            )
        if result.get("synthetic"):
            yield "- Its training texts are synthetic. It is of no use for real ones."
        for baseline, metrics in _better_baselines(result).items():
            yield f"- {baseline} has a better test {' and '.join(metrics)}: prefer it."
        shared = get_number(
            get_group(result, "data", "duplicates", "exact", "test_in_train").get("examples")
        )
        if shared:
            yield (
                f"- {format_count(int(shared), 'text')} of the test split also occur among the "
                "training texts, word for word."
            )
    part = {"left": "start", "middle": "middle", "right": "end"}[file.truncation_side]
    yield f"- Of a text with more than {file.max_length:,} tokens, the {part} is cut off."
    yield "- Tokens that are not in its vocabulary are all read as the same unknown token."
    if file.thresholds is None:
        yield "- It gives every text one of its classes, also a text that belongs to none of them."
    error = get_number(_get_any(result, "test/calibration_error"))
    before = get_number(
        get_group(result, "calibration", "uncalibrated").get("test/calibration_error")
    )
    if error is not None:
        without = ""
        if before is not None and file.temperature != 1.0:
            without = f"; {format_percent(before)} without calibration"
        yield (
            f"- Its probabilities are off by {format_percent(error)} on average (expected "
            f"calibration error, test split{without})."
        )
    if file.temperature != 1.0:
        yield (
            f"- Its probabilities are calibrated with a temperature of {file.temperature:.2f}, "
            "fitted to validation texts. Those of other texts can be less well calibrated."
        )


def _usage(file: ExportedFile) -> Iterator[str]:
    name = file.name
    yield "## Use"
    yield ""
    is_onnx = name.endswith(".onnx")
    extra = "[onnx]" if is_onnx else ""
    yield "```bash"
    yield f"pip install '<clone or wheel of rnn-lab>{extra}'"
    yield f'rnn-lab predict run={_shell(name)} text="..."'
    yield f"rnn-lab predict run={_shell(name)} input=texts.csv output=predictions.csv"
    yield "```"
    yield ""
    yield "```python"
    yield "import rnn_lab"
    yield ""
    yield f"model = rnn_lab.load({name!r})"
    yield 'model.predict(["..."])'
    yield "```"
    if is_onnx:
        yield ""
        yield (
            "ONNX Runtime reads it in other languages too. Inputs: `tokens`, int64 [batch, time], "
            "padded on the right, and `lengths`, int64 [batch]. Output: `probabilities`, float32 "
            "[batch, classes]. The metadata entry `rnn-lab` is JSON with the tokenizer, its "
            "vocabulary and the classes."
        )


def _origin(file: ExportedFile, result: _Result | None) -> Iterator[str]:
    yield "## Origin"
    yield ""
    if result is None:
        yield "Unknown."
        return
    yield "| | |"
    yield "| --- | --- |"
    # Not the overrides: they can have paths of the author's machine.
    facts = {
        "run": result.get("run_name"),
        "finished": get_group(result, "timing").get("finished_at"),
        "seed": result.get("seed"),
        "seed of the split": get_group(result, "data", "options").get("split_seed"),
        "best epoch": result.get("best_epoch"),
        "config fingerprint": result.get("config_fingerprint"),
        "data fingerprint": get_group(result, "data").get("fingerprint"),
        "commit": result.get("git_commit"),
    }
    facts |= {f"version of {name}": value for name, value in get_group(result, "versions").items()}
    for name, value in facts.items():
        if value is not None:
            yield f"| {_text(name)} | `{_code(value)}` |"


def _better_baselines(result: _Result) -> dict[str, list[str]]:
    """Return the names of the metrics of which a baseline has the best, by the baseline's."""
    found: dict[str, list[str]] = {}
    for metric in ("accuracy", "f1"):
        own = get_number(result.get(f"test/{metric}"))
        scores = {
            name: score
            for name, metrics in baseline_metrics(result).items()
            if (score := get_number(metrics.get(f"test/{metric}"))) is not None
        }
        best = max(scores, key=scores.__getitem__, default="")
        if own is not None and scores and is_worse(own, scores[best]):
            found.setdefault(best, []).append(ALL_METRIC_NAMES[metric])
    return found


def _get_any(result: _Result | None, name: str) -> Any:
    return None if result is None else result.get(name)


def _count(value: Any) -> str:
    number = get_number(value)
    return "" if number is None else f"{number:,.10g}"


def _share(value: Any) -> str:
    number = get_number(value)
    return "" if number is None else format_percent(number)


def _metric(name: str, value: Any) -> str:
    number = get_number(value)
    return "" if number is None else format_metric(name, number)


def _text(value: Any) -> str:
    """Return a value as Markdown that shows its characters, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>|~&$])", r"\\\1", sanitize(str(value)))


def _code(value: Any) -> str:
    """Return a value for a code span within a table."""
    return sanitize(str(value)).replace("`", "'").replace("|", "\\|")


def _shell(name: str) -> str:
    return name if re.fullmatch(r"[\w./-]+", name) else "'" + name.replace("'", "'\\''") + "'"
