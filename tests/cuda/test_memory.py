"""Statistics of a device's memory, its bound, and events that tell the time of work and not of its launch."""

import time

import pytest
import tinygrad_cpp as tg
from programs import run
from tinygrad_cpp import nn
from tinygrad_cpp.autograd.graph import save_on_cpu, save_on_disk
from tinygrad_cpp.utils.checkpoint import checkpoint

MEGABYTE = 1 << 20


def test_statistics_follow_tensors():
    before = tg.cuda.memory_allocated()
    tg.cuda.reset_peak_memory_stats()
    x = tg.zeros(MEGABYTE // 4, device="cuda")
    # sizes are rounded up by a quarter at most
    assert MEGABYTE <= tg.cuda.memory_allocated() - before <= 1.25 * MEGABYTE
    del x
    assert tg.cuda.memory_allocated() == before and tg.cuda.max_memory_allocated() >= before + MEGABYTE
    tg.cuda.reset_peak_memory_stats()
    assert tg.cuda.max_memory_allocated() == before
    assert tg.cuda.max_memory_reserved() >= tg.cuda.memory_reserved() >= before
    tg.cuda.empty_cache()
    assert tg.cuda.memory_reserved() == before
    assert f"{before:,}" in tg.cuda.memory_summary()


def test_fraction_bounds_memory():
    device = tg.device("cuda:0")
    try:
        tg.cuda.set_per_process_memory_fraction(0.0)
        with pytest.raises(tg.cuda.OutOfMemoryError, match="out of memory on cuda:0.*tried to allocate"):
            tg.zeros(MEGABYTE, device=device)
        tg.cuda.set_per_process_memory_fraction(1.0)
        assert tg.zeros(4, device=device).tolist() == [0] * 4
    finally:
        tg._C._set_memory_limit(0, device)
    for fraction in (-0.1, 1.5):
        with pytest.raises(tg.ValueError, match="fraction"):
            tg.cuda.set_per_process_memory_fraction(fraction)


@pytest.mark.skipif(not tg.cuda.is_emulated(), reason="needs the emulation's small memory")
def test_limit_bounds_what_is_taken_from_the_device():
    program = """
MEGABYTE = 1 << 20
kept = [tg.empty(MEGABYTE, device="cuda") for _ in range(6)]
del kept
assert cuda.memory_allocated() == 0 and cuda.memory_reserved() >= 24 * MEGABYTE
cuda.set_per_process_memory_fraction(0.4)
x = tg.empty(5 * MEGABYTE, device="cuda")
assert cuda.mem_get_info()[1] == 100 * MEGABYTE and cuda.memory_reserved() <= 40 * MEGABYTE
try: tg.empty(6 * MEGABYTE, device="cuda")
except tg.OutOfMemoryError as e: assert "cached 0 B, limit 40.00 MiB" in str(e), e
else: raise AssertionError
s = cuda.memory_stats()
assert s["num_ooms"] == 1 and s["num_alloc_retries"] >= 1
assert s["reserved_bytes.all.peak"] == cuda.max_memory_reserved() <= 40 * MEGABYTE
assert s["active_bytes.all.current"] == s["allocated_bytes.all.current"] == cuda.memory_allocated()
del x
cuda.empty_cache(); cuda.synchronize()
assert cuda.memory_reserved() == 0 < cuda.max_memory_reserved()
cuda.reset_peak_memory_stats()
assert cuda.max_memory_reserved() == 0 == cuda.memory_stats()["active_bytes.all.peak"]
"""
    run(program, TG_EMU_CACHE="1", TG_CUDA_EMULATE_MEMORY_MB="100")


def test_events_tell_when_work_is_done_not_when_it_is_queued():
    x = tg.ones(1 << 12, device="cuda")
    first, last = (tg.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    first.synchronize()
    y = x * 1.5
    last.record()
    time.sleep(0.02)  # the emulation's work waits until somebody does
    last.synchronize()
    assert first.elapsed_time(last) >= (20 if tg.cuda.is_emulated() else 0)
    assert y[0].item() == 1.5


def test_out_of_memory_names_holders_and_leaves_all_usable():
    x = tg.ones(MEGABYTE, device="cuda")
    tg.memory.set_limit(tg.memory.live("cuda") + 2 * MEGABYTE, "cuda")
    try:
        with pytest.raises(tg.OutOfMemoryError) as e:
            x * 2
        for part in (
            "mul: out of memory on cuda:0",
            "tried to allocate 4.00 MiB",
            "free; the largest holders: ",
            "1 x 4.00 MiB",
        ):
            assert part in str(e.value)
        del e
        found = tg.find_batch_size(lambda n: tg.ones(n, MEGABYTE // 16, device="cuda"), device="cuda")
        assert found.batch == 8 and found.peak >= 6 * MEGABYTE  # eight of a quarter megabyte fit
    finally:
        tg.memory.set_limit(0, "cuda")
    assert (x * 2).sum().item() == 2 * MEGABYTE


def test_summary_is_that_of_the_models_device():
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)).to("cuda")
    optimizer = tg.optim.AdamW(model.parameters())
    x = tg.randn(128, 64, device="cuda")
    with tg.memory.record(model) as kept:
        loss = model(x).square().mean()
    text = tg.memory.summary(model, optimizer, kept)
    assert text.startswith(f"cuda:0: live {tg.memory.text(tg.memory.live('cuda'))}")
    assert "(128, 256)  kept in 1, made by relu at test_memory.py:" in text
    loss.backward()
    optimizer.step()
    rows = dict(line.strip().rsplit("  ", 1) for line in tg.memory.summary(model, optimizer).splitlines()[1:6])
    rows = {k.strip(): v.strip() for k, v in rows.items()}
    parameters = 4 * (64 * 256 + 256 + 256 * 64 + 64)
    assert rows["parameters"] == rows["gradients"] == tg.memory.text(parameters)
    big = tg.empty(MEGABYTE, device="cuda")
    assert tg.memory.largest(1, "cuda")[0] is big
    assert all(t.device.type == "cpu" for t in tg.memory.largest(3, "cpu"))
    watch = tg.memory.timeline(lambda: big * 2, device="cuda")
    assert watch.peaks[""] >= 8 * MEGABYTE


def test_estimate_of_a_model_on_a_device():
    model = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 64))
    there = tg.estimate(model.to("cuda"), 256, inputs=lambda n: tg.ones(n, 64, device="cuda"))
    here = tg.estimate(model.to("cpu"), 256, inputs=lambda n: tg.ones(n, 64))
    assert there.activations == here.activations == 256 * 4 * (64 + 256 + 64)
    assert there.parameters == here.parameters and there.gradients == here.gradients


@pytest.mark.parametrize("kind", ["checkpoint", "host memory", "disk"])
def test_what_is_kept_elsewhere_gives_the_same_gradients(kind, tmp_path):
    model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Dropout(0.5), nn.Linear(64, 64)).to("cuda")
    x = tg.randn(256, 64, device="cuda")

    def run(forward):
        model.zero_grad()
        tg.manual_seed(1)
        before = tg.memory.live("cuda")
        loss = forward(x).square().sum()
        kept = tg.memory.live("cuda") - before
        loss.backward()
        return [p.grad.cpu() for p in model.parameters()], kept

    def hooked(around):
        with around:
            return model(x)

    ways = {
        "checkpoint": lambda x: checkpoint(model, x, use_reentrant=False),
        "host memory": lambda x: hooked(save_on_cpu()),
        "disk": lambda x: hooked(save_on_disk(tmp_path, min_bytes=0)),
    }
    expected, whole = run(model)
    got, kept = run(ways[kind])
    assert all(tg.equal(a, b) for a, b in zip(expected, got)) and kept < whole / 2
    assert not list(tmp_path.iterdir())
