"""utils.data: datasets, samplers and collating as in PyTorch; the same batches with any number of workers."""

from __future__ import annotations

import collections
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tinygrad_cpp as tg
import tinygrad_cpp.utils.data as data
from tinygrad_cpp.utils.data import DataLoader

Point = collections.namedtuple("Point", "x y")
WORKERS = (0, 1, 2, 4)


def plain(x):
    """Tensors of either package as ('dtype', nested lists), containers as they are."""
    if hasattr(x, "tolist") and not isinstance(x, np.generic):
        return str(x.dtype).split(".")[-1], x.tolist()
    if isinstance(x, dict):
        return type(x).__name__, {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x).__name__, [plain(v) for v in x]
    return x


class Augmented(data.Dataset):
    """Samples that use every source of random numbers."""

    def __init__(self, n=23, size=(20, 30)):
        self.n, self.size = n, size

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return tg.full(self.size, float(i)) + tg.randn(*self.size), random.random(), np.random.rand(2), {"name": f"s{i}"}


class Count(data.IterableDataset):
    """0 to n - 1, split over the workers."""

    def __init__(self, n, noisy=False):
        self.n, self.noisy = n, noisy

    def __iter__(self):
        info = data.get_worker_info()
        part = range(self.n) if info is None else range(info.id, self.n, info.num_workers)
        return (i + random.random() * self.noisy for i in part)

    def __len__(self):
        return self.n


class Calls(data.Dataset):
    """Sample i is f(i)."""

    def __init__(self, n, f):
        self.n, self.f = n, f

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.f(i)


# ---- collating

SAMPLES = {
    "tensors": lambda lib: [lib.tensor([1.0, 2.0]), lib.tensor([3.0, 4.0])],
    "0-d tensors": lambda lib: [lib.tensor(1), lib.tensor(2)],
    "arrays": lambda lib: [np.arange(3, dtype=np.int16), np.ones(3, np.int16)],
    "bool arrays": lambda lib: [np.array([True, False]), np.array([True, True])],
    "float32 numbers": lambda lib: [np.float32(1.5), np.float32(2)],
    "float64 numbers": lambda lib: [np.float64(1.5), np.float64(2)],
    "int32 numbers": lambda lib: [np.int32(1), np.int32(2)],
    "floats": lambda lib: [1.5, 2.5],
    "ints": lambda lib: [1, 2, 3],
    "bools": lambda lib: [True, False],
    "strings": lambda lib: ["a", "b"],
    "bytes": lambda lib: [b"a", b"b"],
    "tuples": lambda lib: [(lib.tensor([1.0]), 1, "a"), (lib.tensor([2.0]), 2, "b")],
    "lists": lambda lib: [[1, 2.0], [3, 4.0]],
    "dicts": lambda lib: [{"x": 1, "y": lib.tensor([1.0])}, {"x": 2, "y": lib.tensor([2.0])}],
    "ordered dicts": lambda lib: [collections.OrderedDict(b=1, a=2.0), collections.OrderedDict(b=2, a=1.0)],
    "default dicts": lambda lib: [collections.defaultdict(int, a=1), collections.defaultdict(int, a=2)],
    "namedtuples": lambda lib: [Point(1, lib.tensor([1.0])), Point(2, lib.tensor([2.0]))],
    "nested": lambda lib: [{"a": (1, [2.0, "x"]), "b": Point(np.float32(1), [3])}] * 2,
    "zero size": lambda lib: [lib.zeros(0, 3), lib.zeros(0, 3)],
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("how", ["default_collate", "default_convert"])
def test_collate_like_pytorch(name, how):
    import torch
    import torch.utils.data

    want = getattr(torch.utils.data, how)(SAMPLES[name](torch))
    got = getattr(data, how)(SAMPLES[name](tg))
    assert plain(got) == plain(want)


def test_collate_values():
    x, n, s, p = data.default_collate([(tg.ones(2), 1, "a", Point(1.0, 2)), (tg.zeros(2), 2, "b", Point(3.0, 4))])
    assert x.tolist() == [[1, 1], [0, 0]] and n.tolist() == [1, 2] and n.dtype == tg.int64 and s == ("a", "b")
    assert isinstance(p, Point) and p.x.dtype == tg.float64 and p.x.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("batch", "error", "text"),
    [
        ([object(), object()], TypeError, "not object"),
        ([None, None], TypeError, "not NoneType"),
        ([np.array(["a"]), np.array(["b"])], TypeError, "<U1"),
        ([np.array([None]), np.array([None])], TypeError, "object"),
        ([[1, 2], [3]], ValueError, r"different lengths, \[1, 2\]"),
        ([{"a": 1}, {"b": 1}], ValueError, "key 'a'"),
        ([tg.zeros(2, 3), tg.zeros(2, 4)], tg.ShapeError, "stack"),
        ([], ValueError, "empty"),
    ],
)
def test_collate_errors(batch, error, text):
    with pytest.raises(error, match=text) as caught:
        data.default_collate(batch)
    assert isinstance(caught.value, tg.Error)


def test_collate_with_a_map():
    class Box:
        def __init__(self, v):
            self.v = v

    def boxes(batch, *, collate_fn_map=None):
        return Box([b.v for b in batch])

    collate = data._utils.collate.collate
    kinds = {**data._utils.collate.default_collate_fn_map, Box: boxes}
    n, box = collate([(1, Box(2)), (3, Box(4))], collate_fn_map=kinds)
    assert n.tolist() == [1, 3] and box.v == [2, 4]


# ---- datasets


def test_datasets():
    a = data.TensorDataset(tg.arange(5), tg.arange(5) * 10)
    assert len(a) == 5 and [int(v) for v in a[3]] == [3, 30] and [v.tolist() for v in a[1:3]] == [[1, 2], [10, 20]]
    both = a + data.TensorDataset(tg.arange(2) + 100, tg.arange(2))
    assert isinstance(both, data.ConcatDataset) and len(both) == 7 and both.cumulative_sizes == [5, 7]
    assert [int(both[i][0]) for i in (0, 4, 5, -1, -7)] == [0, 4, 100, 101, 0]
    stacked = data.StackDataset([1, 2], "ab")
    assert len(stacked) == 2 and stacked[1] == (2, "b")
    assert data.StackDataset(x=[1, 2], y="ab")[0] == {"x": 1, "y": "a"}
    part = data.Subset(a, [4, 0])
    assert len(part) == 2 and int(part[0][0]) == 4 and len(part.__getitems__([1, 0, 1])) == 3
    chained = Count(2) + Count(3)
    assert isinstance(chained, data.ChainDataset) and list(chained) == [0, 1, 0, 1, 2] and len(chained) == 5
    assert isinstance(data.Dataset[int], object) and [x for x, _ in list(a)][4] == 4


def test_random_split():
    g = tg.Generator()
    parts = data.random_split(range(10), [7, 3], generator=g.manual_seed(1))
    assert [len(p) for p in parts] == [7, 3] and sorted([*parts[0], *parts[1]]) == list(range(10))
    again = data.random_split(range(10), [7, 3], generator=g.manual_seed(1))
    assert list(parts[0].indices) == list(again[0].indices)


@pytest.mark.oracle
@pytest.mark.parametrize("lengths", [[0.5, 0.25, 0.25], [0.9, 0.1], [3, 8, 0], [11], [0.33, 0.67], [1.0]])
def test_random_split_lengths(lengths):
    from torch.utils.data import random_split

    assert [len(p) for p in data.random_split(range(11), lengths)] == [len(p) for p in random_split(range(11), lengths)]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: data.random_split(range(10), [7, 4]), ValueError, "11, not to the 10"),
        (lambda: data.random_split(range(10), [0.5, 0.6]), ValueError, "1.1"),
        (lambda: data.random_split(range(10), [11, -1]), ValueError, "negative"),
        (lambda: data.TensorDataset(tg.zeros(2), tg.zeros(3)), tg.ShapeError, r"\[2\], \[3\]"),
        (lambda: data.TensorDataset(), ValueError, "at least one"),
        (lambda: data.ConcatDataset([]), ValueError, "at least one"),
        (lambda: data.ConcatDataset([Count(2)]), TypeError, "ChainDataset"),
        (lambda: data.ChainDataset([range(2)]), TypeError, "range"),
        (lambda: data.ConcatDataset([range(2)])[2], IndexError, "2 is out of range"),
        (lambda: data.StackDataset([1], [1, 2]), ValueError, r"\[1, 2\]"),
        (lambda: data.StackDataset(), ValueError, "either"),
        (lambda: data.Dataset()[0], NotImplementedError, "__getitem__"),
        (lambda: iter(data.IterableDataset()), NotImplementedError, "__iter__"),
        (lambda: iter(data.Sampler()), NotImplementedError, "__iter__"),
        (lambda: data.RandomSampler(range(3), num_samples=0), ValueError, "num_samples"),
        (lambda: data.RandomSampler(range(3), replacement=1), TypeError, "replacement"),
        (lambda: list(data.RandomSampler([], num_samples=2)), ValueError, "none"),
        (lambda: data.WeightedRandomSampler([[1.0]], 1), tg.ShapeError, r"\[1, 1\]"),
        (lambda: list(data.WeightedRandomSampler([1.0, 0], 2, False)), ValueError, "multinomial"),
        (lambda: data.BatchSampler(range(3), 0), ValueError, "batch_size"),
        (lambda: data.DistributedSampler(range(3), 2, 2), ValueError, "rank 2"),
        (lambda: DataLoader([1], batch_size=0), ValueError, "batch_size"),
        (lambda: DataLoader([1], num_workers=-1), ValueError, "num_workers"),
        (lambda: DataLoader([1], timeout=-1), ValueError, "timeout"),
        (lambda: DataLoader([1], prefetch_factor=2), ValueError, "prefetch_factor"),
        (lambda: DataLoader([1], persistent_workers=True), ValueError, "persistent_workers"),
        (lambda: DataLoader([1], shuffle=True, sampler=[0]), ValueError, "exclude"),
        (lambda: DataLoader([1], batch_sampler=[[0]], drop_last=True), ValueError, "batch_sampler excludes"),
        (lambda: DataLoader([1], batch_size=None, drop_last=True), ValueError, "drop_last"),
        (lambda: DataLoader(Count(2), shuffle=True), ValueError, "IterableDataset"),
        (lambda: setattr(DataLoader([1]), "batch_size", 3), ValueError, "cannot be set"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text) as caught:
        call()
    assert isinstance(caught.value, tg.Error)


# ---- samplers


@pytest.mark.oracle
@pytest.mark.parametrize("n", [0, 1, 7, 8])
def test_orders_without_chance_are_those_of_pytorch(n):
    import torch.utils.data as theirs

    for lib in (data, theirs):
        assert list(lib.SequentialSampler(range(n))) == list(range(n))
    for size in (1, 3, 8):
        for drop in (False, True):
            mine, other = (lib.BatchSampler(lib.SequentialSampler(range(n)), size, drop) for lib in (data, theirs))
            assert list(mine) == list(other) and len(mine) == len(other)
    for replicas in (1, 2, 3):
        for drop in (False, True):
            for rank in range(replicas):
                args = (range(n), replicas, rank, False, 0, drop)
                if n:
                    mine = data.DistributedSampler(*args)
                    other = theirs.distributed.DistributedSampler(*args)
                    assert list(mine) == list(other) and len(mine) == len(other)


def test_random_sampler():
    g = tg.Generator()
    once = list(data.RandomSampler(range(50), generator=g.manual_seed(1)))
    assert sorted(once) == list(range(50)) and once != list(range(50))
    assert once == list(data.RandomSampler(range(50), generator=g.manual_seed(1)))
    assert once != list(data.RandomSampler(range(50), generator=g))
    more = list(data.RandomSampler(range(5), num_samples=12))
    assert sorted(more[:5]) == sorted(more[5:10]) == list(range(5)) and len(more) == 12
    drawn = list(data.RandomSampler(range(5), replacement=True, num_samples=5000))
    assert all(900 < drawn.count(i) < 1100 for i in range(5))
    tg.manual_seed(4)
    first = list(data.RandomSampler(range(9)))
    assert first != list(data.RandomSampler(range(9)))
    tg.manual_seed(4)
    assert first == list(data.RandomSampler(range(9)))


def test_random_sampler_is_lazy():
    many = data.RandomSampler(range(10**12), replacement=True, num_samples=10**10)
    assert len(many) == 10**10
    tg.memory.reset_peak()
    before = tg.memory.live()
    assert len({i for i, _ in zip(many, range(3000))}) == 3000
    assert tg.memory.peak() - before < 100_000
    loader = DataLoader(range(10**12), 4, sampler=many)
    assert len(loader) == 25 * 10**8 and len(next(iter(loader))) == 4


def test_weighted_and_subset_samplers():
    drawn = list(data.WeightedRandomSampler([1, 0, 3], 4000))
    assert drawn.count(1) == 0 and 2850 < drawn.count(2) < 3150
    assert sorted(data.WeightedRandomSampler(tg.ones(6), 6, replacement=False)) == list(range(6))
    assert sorted(data.SubsetRandomSampler([9, 4, 7])) == [4, 7, 9]


def test_distributed_sampler_shuffles_together():
    parts = [data.distributed.DistributedSampler(range(10), 3, r, seed=5) for r in range(3)]
    first = [list(p) for p in parts]
    assert {len(p) for p in first} == {4} and set(sum(first, [])) == set(range(10))
    for p in parts:
        p.set_epoch(1)
    assert [list(p) for p in parts] != first
    assert sorted(data.DistributedSampler(range(4))) == [0, 1, 2, 3]
    assert len(list(data.DistributedSampler([], 2, 1))) == 0


# ---- loader


@pytest.mark.oracle
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("options", [{"batch_size": 4}, {"batch_size": 4, "drop_last": True}, {"batch_size": None}, {}])
def test_batches_are_those_of_pytorch(workers, options):
    import torch
    import torch.utils.data as theirs

    def batches(lib, loaders, **extra):
        x = lib.arange(60).reshape(10, 6).float()
        rows = loaders.TensorDataset(x, lib.arange(10))
        return [plain(b) for b in loaders.DataLoader(rows, **options, **extra)]

    assert batches(tg, data, num_workers=workers) == batches(torch, theirs)


def test_every_dtype_arrives():
    for dtype in (tg.float16, tg.bfloat16, tg.float32, tg.float64, tg.int8, tg.int64, tg.uint8, tg.bool):
        x = tg.randint(0, 2, (6, 40, 50)).to(dtype)
        rows = Calls(6, lambda i, x=x: {"x": x[i].t(), "scalar": x[i, 0, 0], "none": x[:0]})
        for workers in (0, 2):
            got = list(DataLoader(rows, 3, num_workers=workers))
            assert got[0]["x"].dtype == dtype and tg.equal(tg.cat([b["x"] for b in got]), x.transpose(1, 2))
            assert tg.equal(tg.cat([b["scalar"] for b in got]), x[:, 0, 0]) and got[0]["none"].shape == (3, 0, 40, 50)
            got[0]["x"].zero_()  # memory of its own, that can be written


@pytest.mark.parametrize("kind", ["map", "stream"])
def test_nothing_depends_on_the_number_of_workers(kind):
    def run(workers, **options):
        tg.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        seen = []
        for _ in range(2):
            if kind == "map":
                loader = DataLoader(Augmented(), 4, shuffle=True, num_workers=workers, **options)
            else:
                loader = DataLoader(Augmented(12, (3,)), 4, sampler=data.WeightedRandomSampler([1.0] * 12, 20),
                                    num_workers=workers, **options)
            for batch in loader:
                seen.append((plain(batch), tg.rand(1).item(), random.random(), np.random.rand()))
        return seen

    want = run(0)
    assert want[0][0][1][0] != want[6][0][1][0]  # passes differ
    for workers in WORKERS[1:]:
        assert run(workers) == want
    assert run(2, persistent_workers=True) == want and run(2, prefetch_factor=7) == want


def test_sampler_generator_and_loader_generator():
    def order(workers):
        g = tg.Generator()
        loader = DataLoader(range(20), 6, shuffle=True, generator=g.manual_seed(2), num_workers=workers)
        return [b.tolist() for _ in range(2) for b in loader]

    before = tg.get_rng_state()
    assert order(0) == order(2) and sorted(sum(order(0)[:4], [])) == list(range(20))
    assert tg.equal(before, tg.get_rng_state())


def test_fetching_leaves_the_generators_alone():
    def draws():
        return tg.rand(3).tolist(), random.random(), np.random.randn(3).tolist()

    tg.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    np.random.randn()  # leaves a second number in NumPy's cache
    state = random.getstate(), np.random.get_state()
    want = draws()
    random.setstate(state[0])
    np.random.set_state(state[1])
    g = tg.Generator()
    it = iter(DataLoader(Augmented(), 4, generator=g))
    next(it)
    tg.manual_seed(1)
    next(it)
    assert draws() == want


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_iterable_dataset(workers):
    loader = DataLoader(Count(10), 3, num_workers=workers)
    got = [b.tolist() for b in loader]
    assert sorted(sum(got, [])) == list(range(10)) and len(loader) == 4
    # round the workers, those that have ended left out, as in PyTorch
    assert got == {
        0: [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]],
        1: [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]],
        2: [[0, 2, 4], [1, 3, 5], [6, 8], [7, 9]],
        3: [[0, 3, 6], [1, 4, 7], [2, 5, 8], [9]],
    }[workers]
    singles = [int(x) for x in DataLoader(Count(4), batch_size=None, num_workers=workers)]
    assert sorted(singles) == [0, 1, 2, 3]
    dropped = [b.tolist() for b in DataLoader(Count(10), 3, drop_last=True, num_workers=workers)]
    assert all(len(b) == 3 for b in dropped)
    noisy = [[b.tolist() for b in DataLoader(Count(10, True), 3, num_workers=workers, generator=tg.Generator().manual_seed(1))] for _ in range(2)]
    assert noisy[0] == noisy[1]


@pytest.mark.oracle
@pytest.mark.parametrize("workers", [2, 3])
def test_streams_are_dealt_like_pytorch(workers):
    import torch.utils.data as theirs

    class Theirs(theirs.IterableDataset):
        def __iter__(self):
            info = theirs.get_worker_info()
            return iter(range(info.id, 2 + 9 * info.id, info.num_workers))

    class Mine(data.IterableDataset):
        def __iter__(self):
            info = data.get_worker_info()
            return iter(range(info.id, 2 + 9 * info.id, info.num_workers))

    want = [b.tolist() for b in theirs.DataLoader(Theirs(), 2, num_workers=workers)]
    assert [b.tolist() for b in DataLoader(Mine(), 2, num_workers=workers)] == want


def test_worker_info_and_init():
    def look(i):
        info = data.get_worker_info()
        return info.id, info.num_workers, info.seed, len(info.dataset), os.getpid(), tg.get_num_threads(), os.environ["SEEN"]

    def init(worker):
        assert tg.initial_seed() == data.get_worker_info().seed
        os.environ["SEEN"] = str(worker)

    rows = list(DataLoader(Calls(4, look), None, num_workers=2, worker_init_fn=init))
    assert [r[0] for r in rows] == [0, 1, 0, 1] and all(r[1] == 2 and r[3] == 4 and r[5] == 1 for r in rows)
    assert rows[1][2] == rows[0][2] + 1 and rows[0][4] == rows[2][4] != os.getpid()
    assert [r[6] for r in rows] == ["0", "1", "0", "1"] and "SEEN" not in os.environ
    assert data.get_worker_info() is None


def test_getitems_and_batch_sampler():
    class Many(data.Dataset):
        def __getitems__(self, indices):
            return [i * 10 for i in indices]

    got = list(DataLoader(Many(), batch_sampler=[[3, 1], [2]], num_workers=1))
    assert [b.tolist() for b in got] == [[30, 10], [20]]
    assert len(DataLoader(Many(), batch_sampler=[[3, 1], [2]])) == 2
    summed = DataLoader(range(6), 4, collate_fn=sum, num_workers=2)
    assert list(summed) == [6, 9] and DataLoader(range(6), sampler=[5, 0]).batch_size == 1
    assert list(DataLoader([], 3, shuffle=True)) == [] and list(DataLoader([], 3, num_workers=2)) == []


def test_in_any_order():
    def slow(i):
        time.sleep(0.3 if i == 0 else 0)
        return i

    got = [b.item() for b in DataLoader(Calls(6, slow), 1, num_workers=2, in_order=False)]
    assert sorted(got) == list(range(6)) and got[0] != 0


def test_persistent_workers():
    loader = DataLoader(Calls(8, lambda i: (i, os.getpid())), 2, num_workers=2, persistent_workers=True)
    first = {int(p) for _, pids in loader for p in pids}
    for _ in loader:
        break  # what is under way belongs to no later pass
    again = [(i.tolist(), p.tolist()) for i, p in loader]
    assert {p for _, pids in again for p in pids} == first and [i for i, _ in again] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    older, newer = iter(loader), iter(loader)
    next(older), next(newer)
    with pytest.raises(tg.Error, match="newer pass"):
        next(older)
    assert len(list(newer)) == 3
    del loader, older, newer
    assert not multiprocessing.active_children()
    streams = DataLoader(Count(5), 2, num_workers=2, persistent_workers=True)
    assert len(list(streams)) == len(list(streams)) == 3


def test_contexts():
    rows = data.TensorDataset(tg.arange(4))
    for context in ("fork", "spawn", multiprocessing.get_context("fork")):
        got = list(DataLoader(rows, 2, num_workers=1, multiprocessing_context=context))
        assert [b[0].tolist() for b in got] == [[0, 1], [2, 3]]


# ---- what goes wrong


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)


def fail(error):
    def f(i):
        if i == 3:
            raise error
        return i

    return f


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("bad sample"), ValueError),
        (KeyError("bad sample"), KeyError),
        (tg.ShapeError("bad sample"), tg.ShapeError),
        (Odd("bad sample", 2), tg.Error),
        (type("Local", (ValueError,), {})("bad sample"), tg.Error),
    ],
)
def test_an_exception_comes_with_the_workers_traceback(error, kind):
    it = iter(DataLoader(Calls(8, fail(error)), 2, num_workers=2))
    assert next(it).tolist() == [0, 1]
    with pytest.raises(kind) as caught:
        next(it)
    text = str(caught.value)
    assert "DataLoader worker process 1" in text and "in f\n" in text and "bad sample" in text and "test_data.py" in text
    assert not multiprocessing.active_children()
    with pytest.raises(type(error)):
        list(DataLoader(Calls(8, fail(error)), 2))


def test_other_failures_in_workers():
    x = tg.ones(2, requires_grad=True)
    for rows, options, text in (
        (Calls(2, lambda i: lambda: 0), {"collate_fn": list}, "pickle"),
        (Calls(2, lambda i: x * 2), {}, "detach"),
        (Calls(2, lambda i: i), {"worker_init_fn": lambda i: 1 // 0}, "division"),
        (Calls(2, lambda i: next(iter(()))), {}, "StopIteration"),
    ):
        with pytest.raises(Exception, match=text):
            list(DataLoader(rows, 1, num_workers=1, **options))
    leaf = list(DataLoader(Calls(2, lambda i: x), None, num_workers=1))
    assert leaf[0].requires_grad and leaf[0].tolist() == [1, 1]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "worker process 1 .pid [0-9]+. was killed by signal SIGKILL"),
        (lambda: os.kill(os.getpid(), signal.SIGUSR1), "SIGUSR1"),
        (lambda: os._exit(3), "worker process 1 .pid [0-9]+. exited unexpectedly with code 3"),
        (lambda: sys.exit(4), "code 4"),
    ],
)
@pytest.mark.parametrize("persistent", [False, True])
def test_a_dead_worker_is_named(how, text, persistent):
    def f(i):
        if i == 5 and data.get_worker_info():
            how()
        return i

    loader = DataLoader(Calls(12, f), 1, num_workers=2, persistent_workers=persistent)
    since = time.monotonic()
    with pytest.raises(tg.Error, match=text):
        list(loader)
    assert time.monotonic() - since < 20 and not multiprocessing.active_children()


def test_timeout():
    def f(i):
        time.sleep(30 * (i == 1))
        return i

    since = time.monotonic()
    with pytest.raises(tg.Error, match="timed out after 0.3 seconds"):
        list(DataLoader(Calls(4, f), 1, num_workers=2, timeout=0.3))
    assert time.monotonic() - since < 15 and not multiprocessing.active_children()


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_nothing_is_left_behind():
    files, shared = open_files(), set(os.listdir("/dev/shm"))
    kept = []
    for _ in range(3):
        for batch in DataLoader(Augmented(40), 2, num_workers=2):
            kept.append(batch)
            break
        kept.extend(DataLoader(Augmented(40), 2, num_workers=2))
    assert len(kept) == 63 and not multiprocessing.active_children()
    assert open_files() == files and set(os.listdir("/dev/shm")) == shared


def test_a_worker_that_ignores_the_end_is_killed():
    def f(i):
        if i:
            while True:
                try:
                    time.sleep(30)
                except BaseException:
                    pass
        return i

    since = time.monotonic()
    for _ in DataLoader(Calls(4, f), 1, num_workers=1):
        time.sleep(0.2)
        break
    assert 4 < time.monotonic() - since < 20 and not multiprocessing.active_children()


def test_long_messages_do_not_block():
    """Large lists of indices out, large batches back, many of them at once."""
    sizes = DataLoader(Calls(10**6, lambda i: "x" * 10), 50_000, num_workers=2, prefetch_factor=8)
    assert [len(b) for b in sizes] == [50_000] * 20
    small = DataLoader(Calls(3000, lambda i: "x" * 900), 1, num_workers=1, prefetch_factor=1000, persistent_workers=True)
    for _ in range(5):
        next(iter(small))
    assert sum(len(b) for b in small) == 3000


SCRIPT = """
import os, sys, time
import tinygrad_cpp as tg
from tinygrad_cpp.utils.data import DataLoader, Dataset
class D(Dataset):
    def __len__(self): return 1000
    def __getitem__(self, i):
        if i == 0: print(os.getpid(), flush=True)
        time.sleep(0.01)
        return tg.zeros(1000)
def main():
    loader = DataLoader(D(), 2, num_workers=2, persistent_workers=%s)
    it = iter(loader)
    next(it)
    %s
    return it
if __name__ == "__main__":
    it = main()
"""


def gone(pid, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat") as f:
            if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("end", ["exit", "error", "os._exit", "interrupt", "kill"])
def test_no_process_survives(end, persistent):
    last = {"exit": "pass", "error": "1 // 0", "os._exit": "os._exit(0)"}.get(end, "print('ready', flush=True); time.sleep(60)")
    program = subprocess.Popen([sys.executable, "-c", SCRIPT % (persistent, last)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    worker = int(program.stdout.readline())
    since = time.monotonic()
    if end in ("interrupt", "kill"):
        assert program.stdout.readline() == "ready\n"
        since = time.monotonic()
        # as a terminal does it: Ctrl-C reaches the workers, too
        os.killpg(program.pid, signal.SIGINT) if end == "interrupt" else program.kill()
    _, errors = program.communicate(timeout=30)
    assert time.monotonic() - since < 15
    assert gone(worker, 10)
    assert errors.count("Traceback") == (end in ("error", "interrupt")), errors
