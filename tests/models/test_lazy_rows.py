"""An embedding with lazy updates equals that of a dense optimizer."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from rnn_lab.errors import ConfigError
from rnn_lab.models import lazy_optim, lazy_rows
from rnn_lab.models.config import OptimizerConfig
from rnn_lab.models.embedding import Embedding, row_gradient
from rnn_lab.models.optimizers import LAZY_MIN_VOCAB, build_optimizer, use_lazy_embedding

VOCAB_SIZE, FEATURES = 30, 5
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # torch's


class Pair:
    """The same embedding twice: ours with lazy updates, and torch's with torch's optimizer."""

    def __init__(self, name: str = "adamw", dtype=torch.float64, **options) -> None:
        if name != "sgd":  # so small that what is missed is exact
            options = {"eps": 1e-12} | options
        torch.manual_seed(0)
        self.ours = Embedding(VOCAB_SIZE, FEATURES).to(dtype)
        self.dense = nn.Embedding(VOCAB_SIZE, FEATURES, padding_idx=0).to(dtype)
        self.dense.load_state_dict(self.ours.state_dict())
        kinds = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}
        ours = getattr(lazy_optim, kinds[name])
        self.optimizer = ours(self.ours.parameters(), **options)
        lazy_optim.follow_embeddings(self.optimizer, self.ours, lazy=True)
        reference = getattr(torch.optim, kinds[name])
        self.reference = reference(self.dense.parameters(), foreach=False, **options)

    def step(self, tokens: Tensor, lr: float | None = None, scale: float = 1.0) -> float:
        """One step of both with the same gradients. Returns how far what they read differs."""
        slopes = scale * torch.randn(*tokens.shape, FEATURES, dtype=self.dense.weight.dtype)
        read = []
        for embedding, optimizer in ((self.ours, self.optimizer), (self.dense, self.reference)):
            if lr is not None:
                optimizer.param_groups[0]["lr"] = lr
            optimizer.zero_grad()
            vectors = embedding(tokens)
            (vectors * slopes).sum().backward()
            optimizer.step()
            read.append(vectors.detach())
        return (read[0] - read[1]).abs().max().item()

    def weights(self) -> tuple[Tensor, Tensor]:
        """All of both, ours brought up to date."""
        return self.ours.state_dict()["weight"], self.dense.weight.detach()


def few_tokens() -> Tensor:
    """A batch of three words or less, rare ones rarely, and padding."""
    drawn = (VOCAB_SIZE * torch.rand(2, 2) ** 3).long()
    drawn[0, 0] = 0
    return drawn


KINDS = [
    ("adamw", {"weight_decay": 0.0}),
    ("adamw", {"weight_decay": 0.3}),
    ("adam", {}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.0}),
]


@pytest.mark.parametrize("most_steps", [1, 7, 99])
@pytest.mark.parametrize(("name", "options"), KINDS)
def test_every_row_is_where_the_dense_optimizer_has_it(name, options, most_steps, monkeypatch):
    monkeypatch.setattr(lazy_rows, "FLUSH_INTERVAL", most_steps)
    pair = Pair(name, lr=0.1, **options)
    for step in range(120):
        # A schedule that begins at 0, as warm-up does.
        apart = pair.step(few_tokens(), lr=0.1 * math.sin(step / 40) ** 2)
        assert apart < 1e-11, step
    found = pair.optimizer.state_dict()["state"][0]
    ours, dense = pair.weights()
    assert (ours - dense).abs().max() < 1e-11
    assert (dense[1:] - Pair(name, lr=0.1).dense.weight[1:]).abs().min() > 1e-5  # they have moved
    states = pair.reference.state_dict()["state"]
    for moment, expected in states.get(0, {}).items():
        if expected is not None:  # SGD without momentum
            torch.testing.assert_close(found[moment], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("betas", [(0.3, 0.3), (0.4, 0.49), (0.01, 0.01)])
def test_second_moment_that_underflows_within_the_flush_interval(betas):
    pair = Pair(lr=0.01, betas=betas)
    for step in range(lazy_rows.FLUSH_INTERVAL):
        rare = step in (0, lazy_rows.FLUSH_INTERVAL - 1)
        pair.step(torch.tensor([[1, 2 if rare else 1]]))
    ours, dense = pair.weights()
    torch.testing.assert_close(ours, dense, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_rows_that_every_batch_has_differ_by_rounding_only(name, options):
    pair = Pair(name, lr=0.1, **options)
    for _ in range(50):
        assert pair.step(torch.arange(VOCAB_SIZE)) < 1e-14
    ours, dense = pair.weights()
    torch.testing.assert_close(ours, dense, rtol=1e-14, atol=1e-14)


def test_float32_differs_by_rounding():
    pair, exact = Pair(dtype=torch.float32, lr=0.01), Pair(lr=0.01)
    for seed in range(100):
        for one in (pair, exact):
            torch.manual_seed(seed)
            one.step(few_tokens())
    ours, dense = pair.weights()
    torch.testing.assert_close(ours, dense, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("seen", "share"), [(1, 0.05), (100, 1e-3), (1000, 2e-5)])
@pytest.mark.parametrize("scale", [1e-10, 1e-8, 1e-7, 1e-6])
def test_gradients_as_small_as_epsilon(seen, share, scale):
    """Where eps counts, a row misses a little more than dense: no more than is documented."""
    generator = torch.Generator().manual_seed(1)
    moments = {"exp_avg": scale, "exp_avg_sq": scale**2}
    weight = nn.Parameter(torch.zeros(2, 1, dtype=torch.float64))
    state = {name: torch.full_like(weight.detach(), value) for name, value in moments.items()}
    state["step"] = torch.tensor(float(seen))
    ours = lazy_rows.LazyAdam(weight, state, {"betas": (BETA1, BETA2), "eps": EPS, "fused": None})
    dense = 0.0
    for missed in range(1, 200):
        lr = 0.01 * torch.rand(1, generator=generator).item()
        ours.step(torch.tensor([0]), torch.zeros(1, 1, dtype=torch.float64), lr, 0.0)
        step = seen + missed  # by hand, the row that is not among those of the step
        mean = scale * BETA1**missed / (1 - BETA1**step)
        root = math.sqrt(scale**2 * BETA2**missed / (1 - BETA2**step))
        dense -= lr * mean / (root + EPS)
        over = ours.read(torch.tensor([1])).item() / dense - 1
        assert -1e-12 < over < share


def test_the_gradient_is_that_of_torch_and_padding_has_none():
    pair = Pair(lr=0.1)
    tokens = torch.tensor([[3, 0, 7], [3, 3, 0]])
    for embedding in (pair.ours, pair.dense):
        (embedding(tokens) ** 2 * torch.arange(6).view(2, 3, 1)).sum().backward()
    found, expected = pair.ours.weight.grad, pair.dense.weight.grad
    assert found.is_sparse
    assert found._indices().tolist() == [[0, 3, 7]]
    torch.testing.assert_close(found.to_dense(), expected)
    assert expected[3].abs().min() > 0
    (2 * pair.ours(torch.tensor([3, 5]))).sum().backward()  # a second batch before the step
    (2 * pair.dense(torch.tensor([3, 5]))).sum().backward()
    torch.testing.assert_close(pair.ours.weight.grad.to_dense(), pair.dense.weight.grad)
    pair.optimizer.step()
    pair.reference.step()
    torch.testing.assert_close(*pair.weights())
    assert pair.weights()[0][0].tolist() == [0.0] * FEATURES


def test_dense_gradients_and_none_make_steps_too():
    pair = Pair(lr=0.1)
    for embedding, optimizer in ((pair.ours, pair.optimizer), (pair.dense, pair.reference)):
        torch.manual_seed(2)
        for step in range(9):
            embedding.train(step % 3 > 0)  # outside training our gradient is dense
            optimizer.zero_grad()
            if step != 4:
                (embedding(few_tokens()) ** 2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(*pair.weights())


def test_reading_between_steps_changes_nothing():
    watched, alone = Pair(lr=0.1), Pair(lr=0.1)
    for pair in (watched, alone):
        torch.manual_seed(3)
        for _ in range(20):
            pair.step(few_tokens())
            if pair is watched:
                twin = copy.deepcopy(pair.ours)
                everything = torch.arange(VOCAB_SIZE)
                assert torch.equal(twin(everything), pair.ours(everything))
                flushed_copy = twin.eval()(everything)
                assert (flushed_copy - pair.dense.weight).abs().max() < 1e-11
    assert torch.equal(watched.ours.weight, alone.ours.weight)  # the rows left behind as well


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_copy_of_model_and_optimizer_goes_on_as_they_do(name):
    pair = Pair(name, lr=0.1, **({"momentum": 0.9} if name == "sgd" else {}))
    for _ in range(5):
        pair.step(few_tokens())
    twin = copy.deepcopy(pair)
    for one in (pair, twin):
        torch.manual_seed(7)
        for _ in range(5):
            one.step(few_tokens())
    assert torch.equal(twin.weights()[0], pair.weights()[0])


def test_what_was_read_before_a_step_is_not_taken_for_what_is_now():
    read, unread = Pair(lr=0.1), Pair(lr=0.1)
    rows, others = torch.tensor([1, 2]), torch.tensor([2, 3])
    slopes = torch.ones(2, FEATURES, dtype=torch.float64)
    for pair in (read, unread):
        updates = pair.ours.lazy_rows
        updates.step(rows, slopes, 0.1, 0.0)
        if pair is read:
            updates.read(rows)
        updates.step(others, -slopes, 0.1, 0.0)
        updates.step(rows, slopes, 0.1, 0.0)
    assert torch.equal(read.weights()[0], unread.weights()[0])


def test_rows_that_occur_twice_are_one():
    weight = torch.nn.Parameter(torch.zeros(9, 2))
    weight.grad = torch.sparse_coo_tensor([[5, 1, 5]], [[1.0, 2], [3, 4], [5, 6]], (9, 2))
    rows, gradients = row_gradient(weight)
    assert rows.tolist() == [1, 5]
    assert gradients.tolist() == [[3, 4], [6, 8]]


def test_new_weights_do_not_move_by_what_the_old_ones_missed():
    pair = Pair(lr=0.1)
    for _ in range(10):
        pair.step(few_tokens())
    given = {"weight": torch.randn(VOCAB_SIZE, FEATURES, dtype=torch.float64)}
    pair.ours.load_state_dict(given)
    assert torch.equal(pair.ours.state_dict()["weight"], given["weight"])


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_saving_and_resuming_do_not_change_the_bits(name, options):
    """In float32 with an eps that matters, where making up in two parts is not making up in one."""
    if name != "sgd":
        options = options | {"eps": 1e-3}
    alone, saved = (Pair(name, torch.float32, lr=0.1, **options) for _ in range(2))
    states: list[tuple] = []
    for pair in (alone, saved):
        torch.manual_seed(4)
        for step in range(40):
            if pair is saved and step % 7 == 3:
                parts = (pair.ours, pair.optimizer)
                states.append(tuple(copy.deepcopy(part.state_dict()) for part in parts))
                states[-1] += (step, torch.get_rng_state())
            pair.step(few_tokens())
    assert torch.equal(saved.weights()[0], alone.weights()[0])
    for weights, state, step, random_state in states:
        later = Pair(name, torch.float32, lr=0.1, **options)
        later.ours.load_state_dict(weights)
        later.optimizer.load_state_dict(state)
        torch.set_rng_state(random_state)
        for _ in range(step, 40):
            later.step(few_tokens())
        assert torch.equal(later.weights()[0], alone.weights()[0])


@pytest.mark.parametrize("then_lazy", [True, False])
def test_saved_optimizer_resumes_lazy_or_dense(then_lazy):
    pair = Pair(lr=0.1)
    for _ in range(20):
        pair.step(few_tokens())
    weights = copy.deepcopy(pair.ours.state_dict())
    state = copy.deepcopy(pair.optimizer.state_dict())
    later = Pair(lr=0.1)
    later.ours.load_state_dict(weights)
    lazy_optim.follow_embeddings(later.optimizer, later.ours, lazy=then_lazy)
    if not then_lazy:
        later.optimizer = lazy_optim.AdamW(later.ours.parameters(), lr=0.1)
    later.optimizer.load_state_dict(state)
    for one in (pair, later):
        torch.manual_seed(4)
        for _ in range(20):
            one.step(few_tokens())
    found, expected = later.weights()[0], pair.weights()[0]
    if then_lazy:
        assert torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_all_other_parameters_move_as_ever():
    def train(*, lazy: bool) -> dict[str, Tensor]:
        torch.manual_seed(5)
        model = nn.Sequential(Embedding(VOCAB_SIZE, FEATURES), nn.Linear(FEATURES, 2))
        optimizer = build_optimizer(OptimizerConfig(lr=0.1), model, lazy=lazy)
        for _ in range(10):
            optimizer.zero_grad()
            optimizer.step(lambda: (model(few_tokens()) ** 2).sum().backward())
        return model.state_dict()

    torch.testing.assert_close(train(lazy=True), train(lazy=False), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_decay_within_the_gradient_leaves_no_row_out(name):
    with pytest.raises(ValueError, match="weight_decay"):
        Pair(name, lr=0.1, weight_decay=0.1)


def test_rows_where_they_pay():
    def chosen(option: str | bool = "auto", vocab_size: int = LAZY_MIN_VOCAB, **where) -> bool:
        where = {"device_type": "cpu", "precision": "32-true"} | where
        return use_lazy_embedding(OptimizerConfig(sparse_embedding=option), vocab_size, **where)

    assert chosen() and chosen(precision="bf16-mixed") and chosen(True, 10)
    assert not chosen(vocab_size=LAZY_MIN_VOCAB - 1) and not chosen(False)
    for elsewhere in (
        *({"device_type": "cuda"}, {"precision": "16-mixed"}),
        {"needs_all_rows": True},
    ):
        assert not chosen(**elsewhere)
        with pytest.raises(ConfigError, match=r"sparse_embedding=true: .*auto, false"):
            chosen(True, **elsewhere)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "nadam"},
        {"name": "sgd", "nesterov": True, "momentum": 0.9, "weight_decay": 0.0},
        {"name": "adamw", "amsgrad": True},
        {"name": "adamw", "betas": [0.999, 0.9]},  # whose missed steps have no finite sum
    ],
)
def test_only_updates_that_can_be_lazy_are(options):
    where = {"device_type": "cpu", "precision": "32-true"}
    assert not use_lazy_embedding(OptimizerConfig(**options), LAZY_MIN_VOCAB, **where)
    config = OptimizerConfig(**options, sparse_embedding=True)
    with pytest.raises(ConfigError, match=r"sparse_embedding=true: not with optimizer"):
        use_lazy_embedding(config, LAZY_MIN_VOCAB, **where)
    lazily = OptimizerConfig(betas=[0.8, 0.95], eps=1e-6)
    assert use_lazy_embedding(lazily, LAZY_MIN_VOCAB, **where)
