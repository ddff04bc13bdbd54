"""Statistics of a device's memory, its bound, and events that tell the time of work and not of its launch."""

import time

import pytest
import tinygrad_cpp as tg

MEGABYTE = 1 << 20


def test_statistics_follow_tensors():
    before = tg.cuda.memory_allocated()
    tg.cuda.reset_peak_memory_stats()
    x = tg.zeros(MEGABYTE // 4, device="cuda")
    assert MEGABYTE <= tg.cuda.memory_allocated() - before <= 1.25 * MEGABYTE  # sizes are rounded up by a quarter at most
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


def test_events_wait_for_work():
    """The kernels between two events take part in the time between them, though launching them returns earlier."""
    x = tg.ones(1 << (18 if tg.cuda.is_emulated() else 27), device="cuda")
    first, last = (tg.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    start = time.perf_counter()
    for _ in range(3):
        y = x * 1.5
    launched = (time.perf_counter() - start) * 1e3
    last.record()
    last.synchronize()
    assert first.elapsed_time(last) > 2 * launched  # of a kernel's milliseconds, a launch takes microseconds
    assert y[0].item() == 1.5
