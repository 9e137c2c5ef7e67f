"""The weights that a training starts from, where they are not random.

That is the vectors of words (data.vectors), or the layers of a finished run (model.init_from).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.options import SKIPGRAM
from rnn_lab.data.tokenizer_base import Tokenizer
from rnn_lab.data.vocabulary import UNK, UNK_ID
from rnn_lab.errors import CheckpointError, ConfigError, DataError
from rnn_lab.io.safetensors_file import digest
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import ModelConfig
from rnn_lab.models.embedding import scale_vectors
from rnn_lab.models.recurrent_module import RecurrentModule
from rnn_lab.runs.jobs import refuse_unfinished
from rnn_lab.runs.untrusted import get_group
from rnn_lab.training.config import RunConfig
from rnn_lab.training.data_report import describe_left_out
from rnn_lab.training.reproduce import read_run_record
from rnn_lab.training.saved_network import SavedNetwork, read_network
from rnn_lab.training.train_hashes import same_split_options, warn_of_shared_texts
from rnn_lab.validation import as_typed

_LAYERS = "recurrent."  # copied from another run in any case
_POOLING = "pooling_module."  # copied where both runs pool alike
_STRUCTURE = ("name", "embedding_dim", "hidden_size", "num_layers", "bidirectional")
_FIRST_WEIGHTS_ONLY = {"forget_bias"}  # options of a cell that its trained weights replace


@dataclass(frozen=True)
class InitialWeights:
    """Tensors to copy into a new network, and what result.json and last.ckpt say of them."""

    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rows: Tensor | None = None  # int64 [words], of the embedding
    vectors: Tensor | None = None  # float32 [words, embedding_dim]
    layers: Mapping[str, Tensor] = field(default_factory=dict)  # by name in the network
    is_recorded: bool = False  # in a last.ckpt, which has the weights

    @property
    def signature(self) -> dict[str, Any]:
        """What decides the metrics of a run beside its options."""
        names = {"vectors": "data.vectors_fingerprint", "init_from": "model.init_from_fingerprint"}
        return {names[name]: about.get("fingerprint") for name, about in self.about.items()}

    def copy_into(self, model: RecurrentModule) -> None:
        """Change the weights of a new network; no random number is drawn."""
        if self.rows is not None and self.vectors is not None:
            with torch.no_grad():
                model.network.embedding.weight[self.rows] = self.vectors
        model.network.load_state_dict(dict(self.layers), strict=False)


def load_initial_weights(config: RunConfig, data: TextDataModule) -> InitialWeights:
    """Return the weights that `config` names, for the vocabulary of `data`; print what they cover.

    Raises:
        ConfigError: the network or the tokenizer of model.init_from is another one.
        CheckpointError: model.init_from is not a run.
        DataError: the vectors cannot be read, or those of a run to reproduce were others.
    """
    if not config.train:
        return InitialWeights()
    found = InitialWeights()
    if config.model.init_from is not None:
        found = _from_run(config.model, data)
    elif data.config.vectors is not None:
        found = _from_vectors(config, data)
    if config.reproduce is not None:
        _check_same(config.reproduce, found)
    return found


def initial_vocabulary(config: ModelConfig) -> Tokenizer | None:
    """Return the vocabulary of model.init_from; None: the option is not set.

    Raises:
        CheckpointError: it is not a run.
    """
    if config.init_from is None:
        return None
    return _read_run(config).text_encoder.vocabulary


def _read_run(config: ModelConfig) -> SavedNetwork:
    try:
        refuse_unfinished(str(config.init_from))
        return read_network(str(config.init_from))
    except CheckpointError as error:
        raise CheckpointError(f"model.init_from: {error}") from None


def _from_vectors(config: RunConfig, data: TextDataModule) -> InitialWeights:
    found = data.word_vectors(config.model.embedding_dim)
    _print_vectors(found.about, config.optimizer.vectors_lr_factor)
    vectors = scale_vectors(torch.from_numpy(found.vectors))
    return InitialWeights({"vectors": found.about}, torch.from_numpy(found.ids), vectors)


@rank_zero_only
def _print_vectors(about: Mapping[str, Any], lr_factor: float) -> None:
    texts = about.get("texts", {})
    learned = f" learned from {texts['training']:,} training texts" if texts else ""
    if "unlabelled" in texts:
        omitted = describe_left_out(texts["held_out"])
        learned += f" and {texts['unlabelled']:,} unlabelled ones ({omitted})"
    coverage = about["coverage"]
    print(
        f"Word vectors ({about['source']}){learned}: {coverage['vocabulary']:.1%} of the "
        f"vocabulary and {coverage['training_tokens']:.1%} of the training tokens have one; "
        f"optimizer.vectors_lr_factor={lr_factor:g}",
        flush=True,
    )


def _from_run(config: ModelConfig, data: TextDataModule) -> InitialWeights:
    option, run = f"model.init_from={config.init_from}", _read_run(config)
    here, there = data.text_encoder.vocabulary, run.text_encoder.vocabulary
    _check_fits(option, run.model_config, config, (there, here))
    weights = run.network.state_dict()
    mine, theirs = match_tokens(here, there)
    new = sorted(set(range(UNK_ID, data.vocab_size)) - set(mine))
    copied = [_LAYERS] + [_POOLING] * (run.model_config.pooling == config.pooling)
    about = {
        "source": str(config.init_from),
        "fingerprint": digest(weights, run.about),
        "coverage": {"vocabulary": len(mine) / max(data.vocab_size - UNK_ID, 1)},
    }
    _print_run(str(config.init_from), len(mine) - 1, len(new))
    _warn_of_its_texts(run, data)
    # Of a word that it does not know, the recurrent layers have learned to read <unk>.
    return InitialWeights(
        {"init_from": about},
        torch.tensor([*mine, *new], dtype=torch.int64),
        weights["embedding.weight"][[*theirs, *[UNK_ID] * len(new)]],
        layers={name: w for name, w in weights.items() if name.startswith(tuple(copied))},
    )


@rank_zero_only
def _print_run(source: str, known: int, new: int) -> None:
    line = f"Starts from {source}, with its {known:,} tokens"
    if new:
        line += f"; {new:,} more tokens of these texts start from its <unk>"
    print(line, flush=True)


@rank_zero_only
def _warn_of_its_texts(run: SavedNetwork, data: TextDataModule) -> None:
    is_classifier = isinstance(run.network, RecurrentClassifier)
    trained_on = "was trained on" if is_classifier else "was trained, without labels, on"
    advice = (
        "give this run texts of its own (data.val_path, data.test_path), or both runs the same "
        f"files and {same_split_options(data)}"
    )
    warn_of_shared_texts("model.init_from", [run.path], data, trained_on, advice)
    if run.data.config.unlabelled:
        print(
            "model.init_from: its data.unlabelled texts are not recorded, and not compared with "
            "the validation and test texts",
            flush=True,
        )


def match_tokens(vocabulary: Tokenizer, other: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids of the tokens of both vocabularies, in the first and in the second.

    <unk> is one of them, and padding is not.
    """
    if vocabulary.fingerprint == other.fingerprint:
        same = list(range(UNK_ID, len(vocabulary)))
        return same, same
    of_other = {UNK: UNK_ID} | other.token_ids()
    mine = {UNK: UNK_ID} | vocabulary.token_ids()
    shared = [(i, of_other[token]) for token, i in mine.items() if token in of_other]
    return [i for i, _ in shared], [i for _, i in shared]


def _check_fits(
    option: str, theirs: ModelConfig, mine: ModelConfig, tokenizers: tuple[Tokenizer, Tokenizer]
) -> None:
    """Raise a ConfigError that names the options in which the networks differ."""
    cell_options = {*theirs.cell_options, *mine.cell_options} - _FIRST_WEIGHTS_ONLY
    found = {
        f"model.{name}": (getattr(theirs, name, None), getattr(mine, name, None))
        for name in (*_STRUCTURE, *sorted(cell_options))
    }
    there, here = (tokenizer.same_ids_as or tokenizer.name for tokenizer in tokenizers)
    found["data.tokenizer"] = there, here
    different = [
        f"{name}={as_typed(first)}, here {as_typed(second)}"
        for name, (first, second) in found.items()
        if first != second
    ]
    if different:
        raise ConfigError(f"{option}: was trained with other options: {'; '.join(different)}")


def _check_same(place: str, found: InitialWeights) -> None:
    """Make sure that a reproduced run starts from the weights of the recorded one.

    Raises:
        DataError: a file of vectors or the run of model.init_from has changed.
    """
    recorded = read_run_record(place).result
    for name, about in found.about.items():
        fingerprint = get_group(recorded, name).get("fingerprint")
        # Learned vectors may differ in their last digits on another processor.
        if fingerprint != about["fingerprint"] and about["source"] != SKIPGRAM:
            option = "model.init_from" if name == "init_from" else "data.vectors"
            raise DataError(
                f"{place}: began with other weights than those of {option}={about['source']} "
                f"(fingerprint {fingerprint!s:.12}, here {about['fingerprint']:.12})"
            )
