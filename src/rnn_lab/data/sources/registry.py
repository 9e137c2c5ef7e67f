"""Every source of labelled reviews behind one function."""

import logging

from rnn_lab.data.config import AutoConfig, DataConfig, DemoConfig, ImdbConfig, LongRangeConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.sources.demo import load_demo
from rnn_lab.data.sources.imdb import load_imdb
from rnn_lab.data.sources.long_range import load_long_range
from rnn_lab.data.sources.text_files import load_files
from rnn_lab.errors import MissingDataError

log = logging.getLogger(__name__)


def load_corpus(config: DataConfig, *, allow_fallback: bool = False) -> Corpus:
    """The reviews that `config` asks for.

    `auto` means IMDB. Where there is none and `allow_fallback` is true, it means the demo reviews
    instead: the reason is logged as a warning and the corpus is named "demo". An IMDB that is
    there but damaged is never passed over.

    Raises:
        DataError: the reviews cannot be had, or are malformed.
    """
    if isinstance(config, AutoConfig):
        try:
            return load_imdb(config.imdb())
        except MissingDataError as error:
            if not allow_fallback:
                raise
            log.warning("Going on with synthetic demo reviews: %s", error)
            return load_demo(config.demo())
    if isinstance(config, ImdbConfig):
        return load_imdb(config)
    if isinstance(config, DemoConfig):
        return load_demo(config)
    if isinstance(config, LongRangeConfig):
        return load_long_range(config)
    return load_files(config)
