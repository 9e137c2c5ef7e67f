"""IMDB where it is on disk or can be downloaded, otherwise the demo reviews."""

from typing import Literal

from rnn_lab.data.corpus import Corpus
from rnn_lab.data.options import SHARED_OPTIONS, TextOptions
from rnn_lab.data.sources.demo import DemoConfig
from rnn_lab.data.sources.imdb import ImdbConfig, load_imdb
from rnn_lab.data.sources.registry import register_source


class AutoConfig(ImdbConfig):
    """The options of imdb; the demo reviews take the shared ones."""

    source: Literal["auto"] = "auto"  # type: ignore[assignment]

    def imdb(self) -> ImdbConfig:
        """Return the same options for the source imdb."""
        return ImdbConfig(**self.model_dump(exclude={"source"}))

    def fallback(self) -> DemoConfig:
        """Return the shared options for the source demo."""
        return DemoConfig(**self.model_dump(include={*SHARED_OPTIONS, "train_size"}))

    def resolve(self, corpus: Corpus) -> TextOptions:
        """Return the options of what was found: elsewhere `auto` may find other texts."""
        return self.fallback() if corpus.name == "demo" else self.imdb()


@register_source("auto", AutoConfig)
def load_auto(config: AutoConfig) -> Corpus:
    """Load IMDB.

    Raises:
        MissingDataError: IMDB is not on disk and cannot be downloaded.
        DataError: IMDB is damaged.
    """
    return load_imdb(config.imdb())
