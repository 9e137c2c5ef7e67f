"""Train and understand LSTM and GRU text classifiers.

>>> import rnn_lab
>>> model = rnn_lab.load("runs/2026-11-29/10-00-00_gru_seed1")  # doctest: +SKIP
>>> model.predict(["Not bad at all."])  # doctest: +SKIP

`train` and `load` are the Python interface; `rnn_lab.models` has the layers and what plugins
register cells with, `rnn_lab.data` what they register data sources and tokenizers with. Everything
else is internal.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnn_lab.api import Model, Prediction, load, train

__version__ = "0.2.0"
__all__ = ["Model", "Prediction", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    """Import the Python interface at its first use: it needs torch, and the commands may not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rnn_lab import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
