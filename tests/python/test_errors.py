"""G30: what bad input is told. Every call below must raise a typed error whose text is the one in error_messages.txt.

`python tests/python/test_errors.py --update` rewrites the file; read the difference before committing it.
"""

from __future__ import annotations

import builtins
import pathlib
import sys

import numpy as np  # noqa: F401  (used by the calls below)
import pytest
import tinygrad_cpp as tg
from tinygrad_cpp.nn import functional as F  # noqa: F401  (used by the calls below)

SNAPSHOT = pathlib.Path(__file__).with_name("error_messages.txt")


def t(*shape, dtype="float32"):
    return tg.zeros(shape, dtype=getattr(tg, dtype))


def grad(*shape):
    return tg.ones(shape, requires_grad=True)


CALLS = """
t(3, 2) + t(4)
t(3) * t(2, 4)
t(2, 3) - t(3, 3)
tg.sub(t(2, dtype='bool'), t(2, dtype='bool'))
-t(2, dtype='bool')
tg.bitwise_and(t(2), t(2))
tg.floor_divide(t(2, dtype='int64'), 0)
tg.remainder(t(2, dtype='int64'), t(2, dtype='int64'))
t(2, dtype='int64').add_(1.5)
t(2).add_(t(3, 2))
t(1).expand(3).add_(1)
tg.add(t(2), 'x')
tg.add(t(2))
tg.add(t(2), t(2), beta=3)
tg.exp()
tg.exp(3)
tg.exp([1.0])
tg.where(t(3, dtype='bool'), t(2), t(4))
tg.clamp(t(3))
tg.div(t(2), t(2), rounding_mode='up')
tg.lerp(t(3), t(4), 0.5)
tg.zeros(-1)
tg.zeros(2, -3)
tg.zeros('x')
tg.zeros(2**62)
tg.zeros(2**40, 2**40)
tg.empty([1] * 13)
tg.ones(2, dtype='float99')
tg.ones(2, dtype=3)
tg.ones(2, device='gpu')
tg.full((2,), 'x')
tg.arange(0, 1, 0)
tg.arange(1, 0, 1)
tg.arange(0, float('inf'))
tg.linspace(0, 1, -1)
tg.eye(-1)
tg.tensor([[1, 2], [3]])
tg.tensor('abc')
tg.tensor([1, 'x'])
tg.tensor({1: 2})
tg.from_numpy([1, 2])
tg.from_numpy(np.array(['a']))
t(2, 3).view(4)
t(2, 3).view(-1, -1)
t(2, 3).view(-1, 4)
t(2, 3).t().view(6)
t(2, 3).reshape(4, 2)
t(2, 3).expand(2, 4)
t(2, 3).expand(3)
t(2, 3).permute(0, 0)
t(2, 3).permute(0)
t(2, 3).transpose(0, 2)
t(2, 3).squeeze(5)
t(2, 3).unsqueeze(4)
t(2, 3).flatten(1, 0)
t(2, 3, 4).t()
t(2, 3).narrow(1, 2, 2)
t(2, 3).select(1, 3)
t(2, 3).unfold(1, 4, 1)
t(2, 3).unfold(1, 2, 0)
t(5).split(0)
t(5).split([2, 2])
t(5).chunk(0)
t(2, 3).unbind(2)
t(2, 3).diagonal(0, 1, 1)
t(2, 3).as_strided((3, 3), (3, 1))
t(2, 3).as_strided((2, 2), (-1, 1))
t(2, 3)[2]
t(2, 3)[0, 3]
t(2, 3)[0, 0, 0]
t(2, 3)['a']
t(2, 3)[1.5]
t(2, 3)[tg.tensor([0, 2])]
t(2, 3)[tg.tensor([0.5])]
t(2, 3)[tg.tensor([True, False, True])]
t(2, 3)[tg.tensor([0, 1]), tg.tensor([0, 1, 2])]
t(2, 3)[..., ...]
t(2, 3)[::0]
t(2, 3).__setitem__(0, t(4))
t(2, 3).__setitem__(5, 1.0)
tg.gather(t(2, 3), 1, tg.tensor([[3]]))
tg.gather(t(2, 3), 1, tg.tensor([0]))
tg.gather(t(2, 3), 1, t(2, 3))
tg.gather(t(2, 3), 2, tg.tensor([[0]]))
tg.index_select(t(2, 3), 0, tg.tensor([2]))
tg.index_select(t(2, 3), 0, tg.tensor([[0]]))
tg.scatter(t(2, 3), 1, tg.tensor([[5]]), 1.0)
tg.scatter_add(t(2, 3), 1, tg.tensor([[0, 1]]), t(1, 1))
tg.index_add(t(2, 3), 0, tg.tensor([0, 1]), t(3, 3))
tg.masked_fill(t(2, 3), t(2, 3), 1.0)
tg.masked_fill(t(2, 3), t(4, dtype='bool'), 1.0)
tg.masked_select(t(2, 3), t(4, dtype='bool'))
tg.take_along_dim(t(2, 3), tg.tensor([[7]]), 1)
tg.matmul(t(2, 3), t(4, 5))
tg.matmul(t(3), t(4))
tg.matmul(t(2, 3), t(3, dtype='float64'))
tg.matmul(t(2, 3, 4), t(3, 4, 5))
tg.matmul(t(), t(2))
tg.mm(t(2, 3, 4), t(4, 2))
tg.bmm(t(2, 3, 4), t(3, 4, 5))
tg.mv(t(2, 3), t(2))
tg.dot(t(2), t(3))
tg.addmm(t(2), t(2, 3), t(4, 5))
tg.einsum('ij,jk->ik', t(2, 3), t(4, 5))
tg.einsum('ij->k', t(2, 3))
tg.einsum('ijk', t(2, 3))
tg.outer(t(2, 2), t(3))
tg.sum(t(2, 3), dim=2)
tg.sum(t(2, 3), dim=(0, 0))
tg.sum(t(2, 3), dim='x')
tg.mean(t(2, 3, dtype='int64'))
tg.amax(t(0, 3), dim=0)
tg.max(t(0))
tg.argmax(t(2, 0), dim=1)
tg.max(t(2, 3), 2)
tg.cumsum(t(2, 3), 2)
tg.topk(t(5), 6)
tg.topk(t(5), -1)
tg.sort(t(2, 3), dim=2)
tg.kthvalue(t(3), 4)
tg.cat([t(2, 3), t(2, 4)], 0)
tg.cat([t(2, 3), t(2)], 0)
tg.cat([], 0)
tg.cat([t(2), 3])
tg.stack([t(2), t(3)])
tg.stack([])
tg.flip(t(2, 3), [2])
tg.roll(t(2, 3), (1, 2), (0,))
t(2, 3).repeat(2)
t(2).tile('x')
tg.tril(t(3))
tg.diag(t(2, 2, 2))
tg.bincount(tg.tensor([-1]))
tg.randint(3, 3, (2,))
tg.randperm(-1)
tg.bernoulli(tg.tensor([1.5]))
tg.multinomial(tg.tensor([0.5, 0.5]), 3)
tg.multinomial(tg.tensor([-0.5, 0.5]), 1)
tg.normal(0.0, -1.0, (2,))
t(2).uniform_(1.0, 0.0)
t(2).item()
float(t(2))
bool(t(2))
len(t())
iter(t()).__next__()
t(2).to('float99')
grad(2).numpy()
grad(2).add_(1)
(grad(2) * 2).backward()
t(2).backward()
t(2, dtype='int64').requires_grad_()
(grad(2) * 2).requires_grad_(False)
tg.autograd.grad(grad(2).sum(), grad(2))
F.linear(t(2, 3), t(4, 5))
F.linear(t(2, 3), t(4, 3), t(3))
F.softmax(t(2, 3), dim=2)
F.cross_entropy(t(2, 3), tg.tensor([0, 3]))
F.cross_entropy(t(2, 3), tg.tensor([0, 1, 2]))
F.cross_entropy(t(2, 3), tg.tensor([0, 1]), weight=t(2))
F.nll_loss(t(2, 3), t(2))
F.mse_loss(t(2, 3), t(4))
F.mse_loss(t(2), t(2), reduction='all')
F.binary_cross_entropy(t(2), t(3))
F.embedding(tg.tensor([5]), t(3, 2))
F.embedding(t(2), t(3, 2))
F.layer_norm(t(2, 3), (4,))
F.layer_norm(t(2, 3), (3,), weight=t(2))
F.batch_norm(t(2, 3), t(2), t(3))
F.group_norm(t(2, 3), 2)
F.dropout(t(2), p=1.5)
F.conv2d(t(1, 3, 5, 5), t(4, 2, 3, 3))
F.conv2d(t(1, 3, 5, 5), t(4, 3, 7, 7))
F.conv2d(t(1, 3, 5, 5), t(4, 3, 3, 3), stride=0)
F.conv2d(t(1, 3, 5, 5), t(4, 3, 3, 3), t(3))
F.conv2d(t(3, 5), t(4, 3, 3, 3))
F.conv2d(t(1, 3, 5, 5), t(4, 3, 3, 3), groups=2)
F.conv1d(t(1, 3, 5), t(4, 3, 3), padding='full')
F.max_pool2d(t(1, 1, 4, 4), 0)
F.max_pool2d(t(1, 1, 4, 4), 2, padding=2)
F.avg_pool2d(t(4, 4), 2)
F.pad(t(2), (1, 1, 1, 1))
F.pad(t(2, 3), (1, 1), mode='wrap')
F.pad(t(1, 1, 2), (2, 0), mode='reflect')
F.interpolate(t(1, 1, 2, 2))
F.one_hot(tg.tensor([3]), 2)
F.scaled_dot_product_attention(t(2, 3, 4), t(2, 3, 5), t(2, 3, 4))
tg.set_num_threads(0)
tg.set_default_dtype(tg.int64)
tg.promote_types(tg.float32, 3)
tg.manual_seed('a')
tg.manual_seed(2**64)
tg.tensor(1, dtype='float32')
tg.where(t(2), 1.0, t(2))
tg.add(t(2, dtype='int64'), 1, alpha=0.5)
tg.gcd(t(2), t(2))
tg.nextafter(tg.tensor(1), tg.tensor(2))
tg.frexp(tg.tensor(1))
tg.renorm(t(3), 2, 0, 1)
tg.mvlgamma(t(2), 0)
tg.frombuffer(bytearray(6), dtype=tg.float32)
tg.unravel_index(tg.tensor([6]), (2, 3))
t(2).resize_(-1)
t(2).resize_(2**62)
t(3, 2, 2).fill_diagonal_(1)
t(3).view(tg.float64)
t(3, dtype='uint8').view(tg.bool)
t(1, 2).requires_grad_().squeeze_()
F.embedding_bag(tg.tensor([1]), t(3, 2))
F.embedding_bag(tg.tensor([1, 2]), t(3, 2), tg.tensor([1]))
F.grid_sample(t(1, 1, 2, 2), t(1, 2, 2, 3))
F.affine_grid(t(2, 2, 3), (1, 1, 4, 4))
tg.qqqqqqqq
t(2).no_such_method()
""".strip().splitlines()


def outcome(call: str) -> str:
    try:
        eval(call, globals())
    except BaseException as e:
        return f"{type(e).__name__}: {e}".replace("\n", " | ")
    return "no error"


def recorded() -> dict[str, str]:
    pairs = SNAPSHOT.read_text().split("\n\n")
    return {p.split("\n  ", 1)[0].strip(): p.split("\n  ", 1)[1].strip() for p in pairs if "\n  " in p}


@pytest.mark.parametrize("call", CALLS)
def test_message(call):
    got = outcome(call)
    assert got != "no error", f"{call} is accepted"
    kind = got.split(":")[0]
    known = getattr(tg, kind, None) or getattr(builtins, kind, None)
    assert isinstance(known, type) and issubclass(known, Exception) and not kind.startswith("System"), got
    assert recorded().get(call) == got, f"{call}\n  now: {got}\n  was: {recorded().get(call)}"


def test_enough_messages():
    assert len(CALLS) >= 120
    print(f"{len(CALLS)} error messages")


if __name__ == "__main__" and "--update" in sys.argv:
    SNAPSHOT.write_text("\n\n".join(f"{c}\n  {outcome(c)}" for c in CALLS) + "\n")
