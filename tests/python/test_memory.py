"""What memory is used for, estimates of it, and what happens when there is none."""

import gc
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import nn
from tinygrad_cpp.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
from char_gpt import GPT

MIB = 2**20


def line_of(mark):
    """file:line of the line of this file that ends with a comment."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return f"test_memory.py:{next(i for i, s in enumerate(lines, 1) if s.endswith('  # ' + mark))}"


@pytest.fixture(autouse=True)
def _no_garbage_of_other_tests():
    gc.collect()


def test_counters():
    before = tg.memory.live()
    t = tg.empty(1 << 18)
    assert tg.memory.live() - before == MIB and tg.memory.peak() >= tg.memory.live()
    del t
    tg.memory.reset_peak()
    assert tg.memory.peak() == tg.memory.live() == before
    tg.memory.release_cached()
    assert tg.memory.cached() == 0
    assert set(tg.memory.stats()) == {"live", "cached", "peak", "allocations"}
    assert [tg.memory.text(n) for n in (5, 1536, 3 * MIB, 2**31)] == ["5 B", "1.50 KiB", "3.00 MiB", "2.00 GiB"]


def test_all_sizes_of_a_step_are_kept():
    """Not what was live at once, but all that a step asks for: what is given back would be faulted in by the next step."""
    before = tg.memory.live()
    tg.memory.release_cached()
    tg.memory.reset_peak()
    for _ in range(3):
        pair = tg.empty(8 * MIB // 4), tg.empty(4 * MIB // 4)
        del pair
        alone = tg.empty(10 * MIB // 4)
        del alone
        assert tg.memory.cached() >= (8 + 4 + 10) * MIB
    for size in (5, 6, 7, 9, 11):  # sizes that come once do not pile up
        tg.empty(size * MIB // 4)
        assert tg.memory.cached() <= 2 * (tg.memory.peak() - before) + before + MIB
    tg.memory.release_cached()


def test_summary_and_record():
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    optimizer = tg.optim.AdamW(model.parameters())
    x = tg.randn(128, 64)

    def step():
        with tg.memory.record(model) as kept:
            loss = model(x).square().mean()  # the line to be found
        text = tg.memory.summary(model, optimizer, kept)
        loss.backward()
        return kept, text

    kept, text = step()
    assert not kept.live()  # freed by backward
    optimizer.step()
    parameters = 4 * (64 * 256 + 256 + 256 * 64 + 64)
    rows = dict(line.strip().rsplit("  ", 1) for line in tg.memory.summary(model, optimizer).splitlines()[1:6])
    rows = {k.strip(): v.strip() for k, v in rows.items()}
    assert rows["parameters"] == rows["gradients"] == tg.memory.text(parameters)
    assert rows["optimizer state"].startswith(tg.memory.text(2 * parameters)[:4])
    # input, what relu made, output
    activations = [line for line in text.splitlines() if line.strip().startswith("activations")][0]
    assert float(activations.split()[1]) * 1024 == 128 * (64 + 256 + 64) * 4
    assert f"(128, 256)  kept in 1, made by relu at {line_of('the line to be found')}" in text
    big = tg.empty(1 << 20)
    assert tg.memory.largest(1)[0] is big


def test_timeline(tmp_path):
    model = nn.Sequential(*[nn.Linear(128, 128), nn.Tanh()] * 4)
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
    x = tg.randn(512, 128)

    def step():
        with tg.memory.phase("forward"):
            y = model(x)
        with tg.memory.phase("loss"):
            loss = y.square().mean()
        with tg.memory.phase("backward"):
            loss.backward()
        with tg.memory.phase("optimizer"):
            optimizer.step()
        return loss.item()

    before = tg.memory.live()
    watch = tg.memory.timeline(step, tmp_path / "memory.png")
    assert watch.result > 0 and {"forward", "loss", "backward", "optimizer"} <= set(watch.peaks)
    assert watch.peaks["forward"] >= before + 4 * 512 * 128 * 4
    assert watch.peaks["optimizer"] < watch.peaks["backward"]
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG") and "backward" in str(watch)
    times = [t for t, _, _ in watch.samples]
    assert len(times) >= 8 and times == sorted(times)
    with tg.memory.phase("nobody watches"):
        pass
    with pytest.raises(ZeroDivisionError):
        tg.memory.timeline(lambda: 1 / 0)


def test_out_of_memory_says_what_to_do_and_leaves_all_usable():
    model = nn.Linear(256, 256)
    optimizer = tg.optim.Adam(model.parameters())

    def step(batch):
        model(tg.ones(batch, 256)).tanh().square().sum().backward()
        optimizer.step()

    step(1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    live = tg.memory.live()
    tg.memory.set_limit(live + 4 * MIB)
    try:
        with pytest.raises(tg.OutOfMemoryError) as e:
            step(1 << 16)
        assert isinstance(e.value, MemoryError)
        for part in ("tried to allocate 64.00 MiB", "live", "cached", "limit", "smaller batch", "checkpointing"):
            assert part in str(e.value)
        assert "half precision" in str(e.value) and str(e.value).startswith("ones: out of memory on cpu")
        assert re.search(r"the largest holders: (\d+ x [\d.]+ \w+, )*\d+ x", str(e.value))
        del e
        assert tg.memory.live() == live
        assert all(tg.equal(v, before[k]) for k, v in model.state_dict().items())
        step(4)
        found = tg.find_batch_size(step)
        assert 64 <= found.batch <= 4096 and found.peak <= live + 4 * MIB and "fits" in str(found)
        with pytest.raises(tg.OutOfMemoryError):
            step(found.batch * 2)
        with pytest.raises(tg.OutOfMemoryError):
            tg.find_batch_size(step, start=1 << 16)
    finally:
        tg.memory.set_limit(0)
    assert tg.find_batch_size(lambda n: None, largest=100).batch == 64
    with pytest.raises(tg.ValueError):
        tg.find_batch_size(step, start=0)


def test_out_of_memory_names_holders_with_op_and_line():
    tg.memory.set_limit(tg.memory.live() + 9 * MIB)
    try:
        with tg.memory.record():
            big = tg.zeros(1 << 20).requires_grad_()  # the first
            kept = big[: 1 << 19].exp()[:3]  # the second
        with pytest.raises(tg.OutOfMemoryError) as e:
            kept.sum() + big.sin()
        text = str(e.value)
        assert text.startswith("sin: out of memory on cpu: tried to allocate 4.00 MiB; live ")
        assert f"recorded: 4.00 MiB of zeros at {line_of('the first')}, 2.00 MiB of exp at {line_of('the second')}" in text
        assert text.endswith("input=f32[1048576]@cpu")
        del e, kept
        assert big.sin().sum().item() == 0  # there is room now
        del big
        assert not [h for h in tg._C._memory_holders() if h[1] >= MIB]
    finally:
        tg.memory.set_limit(0)


def test_a_step_in_memory_that_is_short_names_the_op_in_backward():
    model = nn.Sequential(nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 1024))
    x = tg.randn(256, 64)

    def gradients():
        model.zero_grad()
        model(x).square().sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    expected = gradients()
    model.zero_grad()
    loss = model(x).square().sum()
    tg.memory.set_limit(tg.memory.live() + MIB // 2)
    try:
        with pytest.raises(tg.OutOfMemoryError, match=r"^\w+: out of memory on cpu.*the largest holders"):
            loss.backward()
    finally:
        tg.memory.set_limit(0)
    del loss
    assert all(p.grad is None for p in model.parameters())
    assert all(tg.equal(a, b) for a, b in zip(expected, gradients()))


# ---- estimates


@pytest.mark.parametrize("name, sizes", [("llama3-8b", (32, 16, 8, 4)), ("llama3-70b", (280, 140, 70, 35))])
def test_weights_of_llama(name, sizes):
    for dtype, gb in zip(("float32", "float16", "int8", "int4"), sizes):
        assert tg.estimate(name, dtype=dtype, optimizer=None).weights / 1e9 == pytest.approx(gb, rel=0.01)


def test_training_of_llama():
    e = tg.estimate("llama3-8b", batch=8, seq_len=2048, dtype=tg.float16, checkpointing=True)
    assert e.training / 1e9 == pytest.approx(64, rel=0.01) and e.training == 4 * e.weights
    assert e.activations_per_layer == 128 * MIB and e.activations == 4096 * MIB
    assert tg.estimate("llama3-8b").checkpoint / 1e9 == pytest.approx(96, rel=0.01)
    whole = tg.estimate("llama3-8b", batch=8, seq_len=2048, dtype=tg.float16)
    assert whole.activations > 10 * e.activations and whole.peak > whole.training
    # 8 heads of 128 for keys and values each, 32 layers
    assert e.kv_cache == 2 * 32 * 8 * 128 * 8 * 2048 * 2


def gpt(batch, context, width, layers, vocab, wrap=lambda block: block):
    def make():
        model = GPT(vocab, context, width, 4, layers)
        model.blocks = nn.Sequential(*[wrap(b) for b in model.blocks])
        return model

    return make, lambda n: tg.randint(vocab, (n, context)), batch, tg.optim.AdamW


def mlp(*sizes):
    layers = [layer for n, m in zip(sizes, sizes[1:]) for layer in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


EXAMPLES = {
    "char_gpt": gpt(16, 64, 64, 2, 100),
    "tinyshakespeare": gpt(12, 64, 128, 4, 65),
    **{f"activation_checkpointing, {n} layers": gpt(16, 64, 64, n, 65, nn.Checkpoint) for n in (4, 9, 16)},
    "digits": (
        lambda: nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), mlp(256, 64, 10)),
        lambda n: tg.ones(n, 1, 8, 8), 64, tg.optim.Adam,
    ),
    "mixed_precision": (lambda: mlp(64, 64, 64, 10), lambda n: tg.ones(n, 64), 128, tg.optim.Adam),
    "resume": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)),
        lambda n: tg.ones(n, 8, 8), 32, tg.optim.AdamW,
    ),
}  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES)
def test_estimate_of_the_models_of_examples(example, request):
    """Within 5 % of what the allocator measures, with one thread: how many threads need room to multiply at the same
    time is up to the scheduler of the system."""
    make, inputs, batch, kind = EXAMPLES[example]
    threads = tg.get_num_threads()
    request.addfinalizer(lambda: tg.set_num_threads(threads))
    tg.set_num_threads(1)
    before = tg.memory.live()
    model = make()
    optimizer = kind(model.parameters())
    loss = lambda out: F.cross_entropy(out.flatten(0, -2), tg.zeros(out.numel() // out.shape[-1], dtype=tg.int64))
    x = inputs(batch)

    def step():
        loss(model(x)).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    tg.memory.reset_peak()
    step()
    measured = tg.memory.peak() - before
    state = tg.get_rng_state()
    e = tg.estimate(model, batch, inputs=inputs, loss=loss, optimizer=optimizer)
    print(f"{example}: estimated {e.peak / MIB:.2f} MiB, measured {measured / MIB:.2f} MiB: {e.peak / measured:.3f}")
    assert e.peak == pytest.approx(measured, rel=0.05)
    assert e.parameters == sum(p.numel() for p in model.parameters())
    assert tg.equal(state, tg.get_rng_state()) and all(p.grad is None for p in model.parameters())


def test_estimate_of_other_models():
    model = nn.Sequential(nn.Linear(32, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 10))
    mean = model[1].running_mean.clone()
    e = tg.estimate(model, 256, inputs=lambda n: tg.ones(n, 32), loss=lambda y: y.sum(), optimizer="sgd")
    assert tg.equal(mean, model[1].running_mean)
    assert e.optimizer == 0 and e.activations >= 256 * 2 * 512 * 4
    small = tg.estimate(nn.Checkpoint(model), 256, inputs=lambda n: tg.ones(n, 32), loss=lambda y: y.sum())
    assert small.activations == 256 * 32 * 4
    for arguments in (dict(optimizer="best"), dict(dtype="float7"), dict(batch=0), dict(seq_len=0)):
        with pytest.raises(tg.ValueError):
            tg.estimate("llama3-8b", **arguments)
    for bad in ("llama9", {"layers": 2}, model):
        with pytest.raises(tg.ValueError):
            tg.estimate(bad)
    with pytest.raises(tg.ValueError, match="own dtype"):
        tg.estimate(model, dtype=tg.float16)


def test_estimate_command():
    run = lambda *a: subprocess.run(
        [sys.executable, "-m", "tinygrad_cpp", "estimate", *a], capture_output=True, text=True
    )
    out = run("llama3-8b", "--batch", "8", "--seq-len", "2048", "--dtype", "float16", "--checkpointing")
    assert out.returncode == 0, out.stderr
    assert "64.2" in out.stdout and "4.295 GB" in out.stdout
    bad = run("--layers", "2")
    assert bad.returncode == 2 and "lacks" in bad.stderr
