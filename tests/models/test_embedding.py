"""The embedding has the vectors and gradients of torch.nn.Embedding."""

import pytest
import torch
from torch import Tensor, nn

from rnn_lab.models.embedding import Embedding, unique_tokens
from rnn_lab.models.lazy_optim import AdamW, follow_embeddings

VOCAB_SIZE, FEATURES = 50, 7


@pytest.fixture(params=["dense", "sparse"])
def ours(request) -> Embedding:
    """Ours in training, with a gradient of either kind."""
    torch.manual_seed(0)
    embedding = Embedding(VOCAB_SIZE, FEATURES)
    if request.param == "sparse":
        follow_embeddings(AdamW(embedding.parameters()), embedding, lazy=True)
    return embedding


def reference(ours: Embedding) -> nn.Embedding:
    """Torch's with the same weight."""
    embedding = nn.Embedding(VOCAB_SIZE, FEATURES, padding_idx=0)
    embedding.load_state_dict(ours.state_dict())
    return embedding


def some_tokens() -> Tensor:
    """Words, frequent ones and padding among them, in the order [time, batch] of a view."""
    tokens = (VOCAB_SIZE * torch.rand(6, 90) ** 4).long()
    tokens[0, 50:] = 0
    return tokens.t()


def gradient(embedding: nn.Embedding, vectors: Tensor, slopes: Tensor) -> Tensor:
    (found,) = torch.autograd.grad((vectors.float() * slopes).sum(), embedding.weight)
    return found.to_dense()


def test_vectors_and_gradients_are_those_of_torch(ours):
    theirs, tokens = reference(ours), some_tokens()
    slopes = torch.randn(*tokens.shape, FEATURES)
    assert torch.equal(ours(tokens), theirs(tokens))
    found = gradient(ours, ours(tokens), slopes)
    assert torch.equal(found, gradient(theirs, theirs(tokens), slopes))  # sums in the same order
    assert not found[0].any() and found[1].any()


@pytest.mark.parametrize(
    "tokens",
    [torch.tensor(3), torch.zeros(0, 5).long(), torch.tensor([[7, 1, 7]]).int()],
    ids=["one", "none", "int32"],
)
def test_tokens_of_any_shape_and_type(ours, tokens):
    theirs = reference(ours)
    assert torch.equal(ours(tokens), theirs(tokens))
    slopes = torch.randn(*tokens.shape, FEATURES)
    expected = gradient(theirs, theirs(tokens), slopes)
    assert torch.equal(gradient(ours, ours(tokens), slopes), expected)


def test_under_autocast_vectors_are_rounded_once_and_sums_exact(ours):
    theirs, tokens = reference(ours), some_tokens()
    slopes = torch.randn(*tokens.shape, FEATURES).bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        vectors = ours(tokens)
        assert torch.equal(ours.eval()(tokens), theirs(tokens))  # float32, as of torch
    assert vectors.dtype == torch.bfloat16
    assert (vectors.float() - theirs(tokens)).abs().max() <= theirs.weight.abs().max() * 2**-8
    found = gradient(ours, vectors, slopes)
    assert found.dtype == torch.float32
    assert torch.equal(found, gradient(theirs, theirs(tokens), slopes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_16_bits_are_looked_up_by_torch(dtype):
    ours = Embedding(VOCAB_SIZE, FEATURES).to(dtype)
    theirs, tokens = reference(ours).to(dtype), some_tokens()
    assert torch.equal(ours(tokens), theirs(tokens))


def test_a_frozen_weight_has_no_gradient(ours):
    ours.weight.requires_grad_(False)
    assert not ours(some_tokens()).requires_grad


def test_distinct_words_as_torch_finds_them():
    for tokens in (torch.randint(50, (9, 4)), torch.full((3, 2), 7), torch.zeros(1, 1).long()):
        rows, places = unique_tokens(tokens, 50)
        assert torch.equal(rows, torch.cat([tokens.flatten(), torch.tensor([0])]).unique())
        assert torch.equal(rows[places], tokens.flatten())


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE])
def test_an_unknown_token_is_an_error(ours, token):
    with pytest.raises(IndexError, match=r"tokens must be from 0 to 49, got"):
        ours(torch.tensor([3, token]))
