"""What the page of a run lists of result.json and the config: data, options, environment."""

from collections.abc import Mapping
from typing import Any

from rnn_lab.data.corpus import SPLITS
from rnn_lab.reports.formatting import format_duration, is_multilabel
from rnn_lab.reports.sweep.options import format_value
from rnn_lab.runs.result_json import recorded_options
from rnn_lab.runs.untrusted import get_group, get_number
from rnn_lab.validation import AUTO

MAX_FACTS = 500  # in a list, all far below in the files of a run
MAX_LENGTH = 2_000  # characters of a value
NO_DATA: dict[str, Any] = {"splits": [], "facts": [], "sources": []}
NO_CONFIG: dict[str, Any] = {"options": [], "inferred": [], "overrides": []}


def describe_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of the splits, what is known of the texts, and how each file was read."""
    data = get_group(result, "data")
    texts = get_group(data, "texts")
    counts = get_group(data, "num_examples")
    splits = []
    for name in dict.fromkeys((*SPLITS, *counts, *texts)):
        if name not in counts and name not in texts:
            continue
        found = get_group(texts, name)
        values = {key: get_number(found.get(key)) for key in (
            "median_length", "max_length", "unknown", "truncated"
        )}  # fmt: skip
        splits.append({"name": name, "examples": get_number(counts.get(name)), **values})
    names = data.get("class_names")
    facts: dict[str, Any] = {
        "source": data.get("name"),
        "classes": len(names) if isinstance(names, list) else None,
        "labels a text": "any number" if is_multilabel(result) else "one" if data else None,
        "vocabulary": get_number(data.get("vocab_size")),
        "rows skipped": get_number(data.get("num_skipped")),
    }
    exact = get_group(data, "duplicates", "exact")
    for key, label in (
        ("test_in_train", "test texts that are also training texts"),
        ("validation_in_train", "validation texts that are also training texts"),
    ):
        facts[label] = get_number(get_group(exact, key).get("examples"))
    facts |= {
        "fingerprint of the texts": data.get("fingerprint"),
        "fingerprint of the test split": data.get("test_fingerprint"),
        "fingerprint of the vocabulary": data.get("vocabulary_fingerprint"),
    }
    sources = []
    for info in get_group(data, "source_info").values():
        options = {name: value for name, value in get_group(info).items() if value is not None}
        path = options.pop("path", "")
        options.pop("lists_of_one", None)  # what was found, and not an option
        listed = [f"data.{name}={_show(value)}" for name, value in options.items()]
        sources.append((str(path), listed))
    return {
        "splits": splits[:MAX_FACTS], "facts": _facts(facts), "sources": sources[:MAX_FACTS],
    }  # fmt: skip


def describe_config(result: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options by group, those that were `auto`, and those of the command line."""
    recorded = recorded_options(result) if result else {}
    inferred = [
        (name, _show(recorded[name]))
        for name, value in config.items()
        if value == AUTO and recorded.get(name, AUTO) != AUTO
    ]
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, value in (recorded or config).items():
        group, dot, _ = name.partition(".")
        groups.setdefault(group if dot else "run", []).append((name, _show(value)))
    overrides = result.get("overrides")
    return {
        "options": [(name, listed[:MAX_FACTS]) for name, listed in groups.items()][:MAX_FACTS],
        "inferred": inferred[:MAX_FACTS],
        "overrides": list(map(_show, overrides))[:MAX_FACTS] if isinstance(overrides, list) else [],
    }


def describe_environment(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return time, memory, machine and versions, by name."""
    timing, machine = get_group(result, "timing"), get_group(result, "machine")
    seconds, rate = (get_number(timing.get(key)) for key in ("wall_time_s", "train_examples_per_s"))
    memory = get_number(timing.get("peak_memory_bytes"))
    parameters = get_number(get_group(result, "model").get("parameters"))
    facts: dict[str, Any] = {
        "finished": timing.get("finished_at"),
        "duration": None if seconds is None else format_duration(seconds),
        "training examples/s": rate,
        "peak memory": None if memory is None else f"{memory / 2**20:,.0f} MiB",
        "threads": get_number(timing.get("threads")),
        "parameters": parameters,
        "seed": result.get("seed"),
        "epochs": result.get("epochs"),
        "batch size halved": f"{result['batch_halvings']} times"
        if result.get("batch_halvings") else None,
        "rollbacks": len(result["rollbacks"])
        if isinstance(result.get("rollbacks"), list) and result["rollbacks"] else None,
        **{name.replace("_", " "): value for name, value in machine.items()},
        "commit": result.get("git_commit"),
        **get_group(result, "versions"),
        "config fingerprint": result.get("config_fingerprint"),
    }  # fmt: skip
    return _facts(facts)


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts that are known, numbers with separators."""
    shown = []
    for name, value in facts.items():
        if value is None or value == "":
            continue
        text = f"{value:,.0f}" if isinstance(value, float) else _show(value)
        shown.append((str(name), text))
    return shown[:MAX_FACTS]


def _show(value: Any) -> str:
    """Return a value, of a very long one the start."""
    text = format_value(value)
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}…"
