"""Whether a smaller or a larger value of a metric is better."""

from typing import Literal

from rnn_lab.validation import AUTO

MetricMode = Literal["min", "max"]  # as Lightning's callbacks have it


def metric_mode(metric: str, chosen: object = AUTO) -> MetricMode:
    """Return whether a smaller or a larger `metric` is better.

    Args:
        metric: its name, such as val/loss.
        chosen: "min" or "max", where a run says which: `trainer.monitor_mode`, or `monitored_mode`
            in its files. Anything else leaves it to the name.
    """
    if chosen not in ("min", "max"):
        return "min" if metric.endswith(("loss", "error", "perplexity")) else "max"
    return "min" if chosen == "min" else "max"
