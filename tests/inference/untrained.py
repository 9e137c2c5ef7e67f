"""Runs that no training made: any network, over a handful of words."""

from pathlib import Path

import torch

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.tokenizer_base import Tokenizer
from rnn_lab.data.vocabulary import SPECIALS, WordTokenizer
from rnn_lab.inference.load import LoadedModel
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import validate_model

WORDS = ("the", "a", "film", "was", "not", "bad", "good", "at", "all", ",", ".")


def untrained_run(
    *,
    vocabulary: Tokenizer | None = None,
    max_length: int = 50,
    truncation_side: str = "left",
    class_names: tuple[str, ...] = ("neg", "pos"),
    task: str = "multiclass",
    **model: object,
) -> LoadedModel:
    """A run of random weights, large enough for gates to open and shut."""
    torch.manual_seed(0)
    vocabulary = vocabulary or WordTokenizer([*SPECIALS, *WORDS])
    sizes = {"embedding_dim": 6, "hidden_size": 5}
    config = validate_model({"name": "lstm"} | sizes | model)
    network = RecurrentClassifier(config, len(vocabulary), len(class_names), task).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(3)
        network.embedding.weight.mul_(3)
    return LoadedModel(
        model=network,
        text_encoder=TextEncoder(vocabulary, max_length, truncation_side),
        class_names=class_names,
        model_config=config,
        data_config=DemoConfig(),
        corpus_fingerprint="",
        path=Path("nowhere") / "model.ckpt",
    )
