"""Texts -> tokens -> ids -> batches. Independent of models.

A data source of your own is a subclass of TextOptions and a function that returns a Corpus; a
tokenizer is a subclass of VocabularyTokenizer or Tokenizer:

    @register_source("mine", MyConfig)
    def load(config: MyConfig) -> Corpus: ...

    @register_tokenizer("mine")
    class MyTokenizer(VocabularyTokenizer): ...
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnn_lab.data.corpus import Corpus as Corpus
    from rnn_lab.data.corpus import Split as Split
    from rnn_lab.data.datamodule import TextDataModule as TextDataModule
    from rnn_lab.data.options import TextOptions as TextOptions
    from rnn_lab.data.sources.registry import register_source as register_source
    from rnn_lab.data.tokenizer_base import Tokenizer as Tokenizer
    from rnn_lab.data.tokenizer_base import register_tokenizer as register_tokenizer
    from rnn_lab.data.vocabulary import VocabularyTokenizer as VocabularyTokenizer

_MODULES = {
    "Corpus": "corpus",
    "Split": "corpus",
    "TextDataModule": "datamodule",
    "TextOptions": "options",
    "Tokenizer": "tokenizer_base",
    "VocabularyTokenizer": "vocabulary",
    "register_source": "sources.registry",
    "register_tokenizer": "tokenizer_base",
}
__all__ = (
    "Corpus",
    "Split",
    "TextDataModule",
    "TextOptions",
    "Tokenizer",
    "VocabularyTokenizer",
    "register_source",
    "register_tokenizer",
)


def __getattr__(name: str) -> Any:
    # Imported when asked for: TextDataModule needs Lightning, which takes seconds.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
