"""x[...] read and written, against PyTorch for what it knows and NumPy for negative steps; random index expressions."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tinygrad_cpp as tg

torch = pytest.importorskip("torch")


def random_key(rnd: random.Random, rng: np.random.Generator, shape: tuple[int, ...]) -> list:
    """Any mix of entries that uses up at most all dimensions; arrays stand for tensors."""
    key, d, ellipsis = [], 0, False
    common = rnd.choice([(), (2,), (3, 1), (2, 3)])
    while d < len(shape) and rnd.random() < 0.85:
        n, kind = shape[d], rnd.choice(["int", "slice", "none", "ellipsis", "tensor", "mask", "bool", "zero-d"])
        if kind == "int" and n:
            key.append(rnd.randrange(-n, n))
            d += 1
        elif kind == "slice":
            ends = [rnd.choice([None, rnd.randrange(-n - 2, n + 3)]) for _ in range(2)]
            key.append(slice(*ends, rnd.choice([None, 1, 2, 3])))
            d += 1
        elif kind == "none":
            key.append(None)
        elif kind == "ellipsis" and not ellipsis:
            ellipsis = True
            key.append(Ellipsis)
            d += rnd.randrange(0, len(shape) - d + 1)
        elif kind == "tensor" and n:
            size = tuple(rnd.choice([x, 1]) for x in common) or (1,)
            key.append(rng.integers(-n, n, size))
            d += 1
        elif kind == "zero-d" and n:
            key.append(np.array(rnd.randrange(-n, n)))
            d += 1
        elif kind == "mask" and rnd.random() < 0.4:
            m = rnd.randrange(1, min(2, len(shape) - d) + 1)
            key.append(rng.integers(0, 2, shape[d : d + m]).astype(bool))
            d += m
        elif kind == "bool" and rnd.random() < 0.2:
            key.append(rnd.random() < 0.7)
    return key


def keys(key: list) -> tuple:
    return tuple(tuple(make(k) if isinstance(k, np.ndarray) else k for k in key) for make in (torch.tensor, tg.tensor))


def both(fn_torch, fn_tg):
    """Results of both, or None if both refuse. Where the result is empty PyTorch does not look at the positions."""
    try:
        a = fn_torch()
    except (IndexError, RuntimeError, TypeError):
        with pytest.raises((IndexError, RuntimeError)):
            fn_tg()
        return None
    try:
        return a, fn_tg()
    except IndexError:
        assert a is not None and a.numel() == 0
        return None


def leaf_pair(values: np.ndarray):
    return torch.tensor(values, requires_grad=True), tg.tensor(values, dtype=tg.float64, requires_grad=True)


def weighted_backward(pair, rng) -> None:
    a, b = pair
    w = rng.standard_normal(tuple(a.shape))
    (a * torch.tensor(w)).sum().backward()
    (b * tg.tensor(w, dtype=tg.float64)).sum().backward()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(8))
def test_random_expressions(seed):
    rnd, rng = random.Random(seed), np.random.default_rng(seed)
    for _ in range(250):
        shape = tuple(rnd.choice([0, 1, 2, 3, 4]) for _ in range(rnd.randrange(0, 5)))
        order = rnd.sample(range(len(shape)), len(shape))  # memory order of the dimensions
        values = rng.standard_normal([shape[i] for i in order])
        x, y = leaf_pair(values)
        back = [int(i) for i in np.argsort(order)]
        if order:
            xs, ys = x.permute(back), y.permute(back)
        else:
            xs, ys = x * 1, y * 1
        key = random_key(rnd, rng, shape)
        key_torch, key_tg = keys(key)
        read = both(lambda: xs[key_torch], lambda: ys[key_tg])
        if read is None:
            continue
        assert tuple(read[0].shape) == tuple(read[1].shape), (shape, key)
        np.testing.assert_array_equal(read[0].detach().numpy(), read[1].detach().numpy(), err_msg=str((shape, key)))
        weighted_backward(read, rng)
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), atol=1e-12, err_msg=str((shape, key)))

        size = tuple(s if rnd.random() < 0.7 else 1 for s in read[0].shape)[rnd.randrange(0, read[0].ndim + 1) :]
        unique = not any(isinstance(k, np.ndarray) and k.dtype != bool and k.ndim for k in key)
        new = leaf_pair(rng.standard_normal(size) if unique else np.array(2.5))
        target = torch.tensor(values).permute(back) * 1, tg.tensor(values, dtype=tg.float64).permute(back) * 1
        wrote = both(lambda: target[0].__setitem__(key_torch, new[0]), lambda: target[1].__setitem__(key_tg, new[1]))
        if wrote is None:
            continue
        np.testing.assert_array_equal(target[0].detach().numpy(), target[1].detach().numpy(), err_msg=str((shape, key)))
        if unique and target[0].requires_grad and target[1].requires_grad:
            weighted_backward(target, rng)
            grads = [np.zeros(size) if v.grad is None else v.grad.numpy() for v in new]
            np.testing.assert_allclose(*grads, atol=1e-12, err_msg=str((shape, key)))


def test_negative_steps_match_numpy():
    rnd, rng = random.Random(3), np.random.default_rng(2)
    for _ in range(500):
        shape = tuple(rnd.choice([0, 1, 2, 3, 5, 7]) for _ in range(rnd.randrange(1, 4)))
        values = rng.standard_normal(shape)
        steps = [-3, -2, -1, 1, 2, None, 2**62, -(2**63)]
        key = tuple(
            slice(*(rnd.choice([None, rnd.randrange(-9, 10)]) for _ in range(2)), rnd.choice(steps)) for _ in shape
        )
        y = tg.tensor(values, dtype=tg.float64, requires_grad=True)
        r, expected = y[key], values[key]
        np.testing.assert_array_equal(r.detach().numpy(), expected)
        w = rng.standard_normal(expected.shape)
        (r * tg.tensor(w, dtype=tg.float64)).sum().backward()
        g = np.zeros(shape)
        g[key] = w
        np.testing.assert_array_equal(y.grad.numpy(), g)


def test_basic_indexing_shares_memory():
    x = tg.zeros(4, 5)
    x[1:3, ::2].fill_(1)
    x[::-1][0] += 2
    expected = np.zeros((4, 5))
    expected[1:3, ::2] = 1
    expected[::-1][0] += 2
    np.testing.assert_array_equal(x.numpy(), expected)
    x[[0, 1]].fill_(9)  # a copy
    np.testing.assert_array_equal(x.numpy(), expected)


def test_repeated_positions_accumulate_gradients():
    x = tg.zeros(3, dtype=tg.float64, requires_grad=True)
    x[[0, 2, 0, 0]].sum().backward()
    assert x.grad.tolist() == [3.0, 0.0, 1.0]


def test_padding_row_of_embedding_gets_no_gradient():
    w = tg.randn(4, 3, dtype=tg.float64, requires_grad=True)
    for padding in (1, -3):
        w.grad = None
        tg.nn.functional.embedding(tg.tensor([[0, 1], [1, 3]]), w, padding_idx=padding).sum().backward()
        assert w.grad.tolist() == [[1.0] * 3, [0.0] * 3, [0.0] * 3, [1.0] * 3]


def test_gradient_of_scatter_prod_with_zeros():
    rng = np.random.default_rng(0)
    for zeros in range(4):
        values, source = rng.standard_normal(3), rng.standard_normal(6)
        source[:zeros] = 0
        index = np.array([0, 0, 1, 2, 1, 1])
        grads = []
        for pair, lib in ((torch.tensor, torch), (lambda a, **k: tg.tensor(a, **k), tg)):
            x, s = pair(values, requires_grad=True), pair(source, requires_grad=True)
            lib.scatter_reduce(x, 0, pair(index), s, "prod").sum().backward()
            grads.append((x.grad.numpy(), s.grad.numpy()))
        np.testing.assert_allclose(grads[0][0], grads[1][0])
        np.testing.assert_allclose(grads[0][1], grads[1][1])


def test_gather_names_one_wrong_index_in_any_layout():
    """Indices are looked at in pieces of 512; what a message names is the range of all, however they lie."""
    index = tg.zeros(3, 2000, dtype=tg.int64)
    for row, col, value in ((0, 5, 2005), (0, 1500, -3), (1, 7, 2070), (2, 1999, -4)):
        index[row, col] = value
    apart = tg.stack([index, index], 2).reshape(3, 4000)[:, ::2]
    source = tg.zeros(3, 2000)
    texts = []
    for at in (index, apart):
        with pytest.raises(tg.IndexError) as error:
            tg.gather(source, 1, at)
        texts.append(str(error.value))
    assert texts[0] == texts[1] and "-4" in texts[0]
