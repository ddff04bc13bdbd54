"""Runs that are killed and files that fail: exact resume, faults at every file operation, power loss, damaged files."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import nn
from tinygrad_cpp.checkpoint import Training, best_interval
from tinygrad_cpp.utils.checkpoint import checkpoint
from tinygrad_cpp.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset, WeightedRandomSampler

ROOT = Path(__file__).resolve().parents[2]
Faulty = tg._C._FaultyFiles


# ---- a small run with everything in it


class Net(nn.Module):
    def __init__(self, recompute=False):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.recompute = recompute

    def block(self, x):
        return nn.functional.dropout(self.norm(self.first(x)).relu(), 0.3, self.training)

    def forward(self, x):
        h = checkpoint(self.block, x, use_reentrant=False) if self.recompute else self.block(x)
        return self.last(h)


class Noisy(TensorDataset):
    """Augments with the default generators, so the loader's seeds matter."""

    def __getitem__(self, i):
        x, y, number = super().__getitem__(i)
        return x + 0.01 * tg.randn(6) + random.random() * 1e-3 + np.random.rand() * 1e-3, y, number


OPTIMIZERS = {
    "sgd": lambda p: tg.optim.SGD(p, lr=0.05),
    "momentum": lambda p: tg.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: tg.optim.Adam(p, lr=0.01),
    "adamw": lambda p: tg.optim.AdamW(p, lr=0.01, amsgrad=True),
}


class Run:
    """Five batches an epoch; `order` holds the samples used."""

    def __init__(self, folder, optimizer="adamw", dtype=tg.float32, recompute=False, workers=0, scaler=None,
                 noisy=False, autocast=None, **options):  # fmt: skip
        tg.manual_seed(1)
        random.seed(2)
        np.random.seed(3)
        self.model = Net(recompute).to(dtype)
        self.dtype, self.autocast, self.scaler, self.order = dtype, autocast, scaler, []
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = tg.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 20)
        x = tg.arange(120.0).reshape(20, 6).sin()
        data = (Noisy if noisy else TensorDataset)(x, tg.arange(20) % 3, tg.arange(20))
        self.loader = DataLoader(data, batch_size=4, shuffle=True, num_workers=workers)
        self.extra = {"order": self.order, "generator": tg.Generator().manual_seed(4)}
        self.training = Training(self.model, self.optimizer, scaler, [self.scheduler], self.loader, self.extra,
                                 folder=folder, **{"on_sigterm": False, "every": 1, **options})  # fmt: skip

    def go(self, until, pause=lambda step: None):
        step = self.training.restore()
        self.order = self.extra["order"]
        while step < until:
            for x, y, number in self.loader:
                with tg.autocast("cpu", self.autocast, enabled=self.autocast is not None):
                    out = self.model(x.to(self.dtype))
                loss = nn.functional.cross_entropy(out.float(), y)
                loss = loss + tg.rand(1, generator=self.extra["generator"]).item() * 1e-3 * random.random() * loss
                self.optimizer.zero_grad()
                if self.scaler is None:
                    loss.backward()
                    self.optimizer.step()
                else:
                    self.scaler.scale(loss).backward()
                    self.scaler.step(self.optimizer)
                    self.scaler.update()
                self.scheduler.step()
                self.order += number.tolist()
                step += 1
                pause(step)
                self.training.after(step)
                if step == until:
                    break
        self.training.close()
        return self.hash()

    def hash(self):
        """Of the weights and all else that is saved."""
        state = self.training._state(0)
        digest = hashlib.sha256(json.dumps(tg.serialization.lay_out(state)[1]).encode())
        for name, t in tg.serialization.lay_out(state)[0]:
            digest.update(name.encode() + t.float().numpy().tobytes())
        return digest.hexdigest()


# ---- exact resume


PRECISIONS = {
    "float32": lambda: {},
    "bfloat16": lambda: dict(dtype=tg.bfloat16),
    # overflows at first, so that steps are left out as well
    "float16 with a scaler": lambda: dict(
        autocast=tg.float16, scaler=tg.amp.GradScaler("cpu", init_scale=2.0**18, growth_interval=3)
    ),
}


def stopped_at_each_step(tmp_path, options, steps=20):
    """Of a run with these options and of those that go on from each of its steps, whether they end in the same bits."""
    expected = Run(tmp_path / "whole", keep=100, **options()).go(steps)
    for stop in range(1, steps):
        folder = tmp_path / str(stop)
        folder.mkdir()
        shutil.copy(tmp_path / "whole" / f"step-{stop:012d}.safetensors", folder)
        assert Run(folder, **options(), every=1000).go(steps) == expected, f"stopped at step {stop}"


@pytest.mark.filterwarnings("ignore:GradScaler")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("recompute", [False, True], ids=["dropout", "dropout and checkpointing"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stopped_at_each_step_it_ends_in_the_same_bits(optimizer, precision, recompute, workers, tmp_path):
    """G16: parameters, moments, scaler, generators, order of the data."""
    common = dict(optimizer=optimizer, recompute=recompute, workers=workers)
    stopped_at_each_step(tmp_path, lambda: dict(common, **PRECISIONS[precision]()))


@pytest.mark.parametrize("options", [dict(noisy=True), dict(background=True)], ids=["noisy data", "in the background"])
def test_stopped_at_each_step_with_noise_and_in_the_background(options, tmp_path):
    stopped_at_each_step(tmp_path, lambda: options)


def test_workers_and_resume_do_not_matter(tmp_path):
    hashes = {Run(tmp_path / "0", noisy=True, every=7).go(12)}
    for workers, then in ((2, 0), (0, 2), (2, 2)):
        folder = tmp_path / f"{workers}{then}"
        first = Run(folder, workers=workers, noisy=True, every=7)
        first.go(8)
        hashes.add(Run(folder, workers=then, noisy=True, every=7).go(12))
    assert len(hashes) == 1


KILLED = """
    import os, random, signal, sys, time
    sys.path.insert(0, sys.argv[1])
    import tinygrad_cpp as tg
    from test_resume import Run
    tg.set_num_threads(1)
    folder, rounds = sys.argv[2], int(sys.argv[3])
    steps = 15 * rounds  # a round takes about 5 of them

    def child(folder, ready=None):
        run = Run(folder, on_sigterm=True, keep=2)
        tail = run.go(steps, pause=lambda step: ready is not None and os.write(ready, b"x"))
        print(tail, *run.order, flush=True)

    def forked(f, *args):
        pid = os.fork()
        if pid == 0:
            code = 1
            try: f(*args); code = 0
            except SystemExit as e: code = e.code
            finally: sys.stdout.flush(); os._exit(code)
        return pid

    os.waitpid(forked(child, folder + "/alone"), 0)
    rng, codes = random.Random(int(sys.argv[4])), []
    for i in range(rounds):
        r, w = os.pipe()
        pid = forked(child, folder + "/killed", w)
        os.close(w)
        for _ in range(rng.randint(1, 4)): os.read(r, 1)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(pid, (signal.SIGKILL, signal.SIGTERM)[i % 2])
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    assert os.waitpid(forked(child, folder + "/killed"), 0)[1] == 0
    print(*codes)
"""


def test_killed_ten_times_it_ends_in_the_same_bits(tmp_path):
    """G17: SIGKILL and SIGTERM at random moments, saving included: a run that saves every step spends its time there.

    TG_KILLS=500 for the full test.
    """
    rounds = int(os.environ.get("TG_KILLS", "10"))
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    command = [sys.executable, script, Path(__file__).parent, tmp_path, rounds, "5"]
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120 + 10 * rounds)
    assert r.returncode == 0, r.stdout + r.stderr
    *runs, codes = [line.split() for line in r.stdout.splitlines() if "passed over" not in line]
    assert runs[0] == runs[-1], "other bits than the run that was left alone"
    order = [int(i) for i in runs[-1][1:]]
    assert len(order) == 60 * rounds
    for epoch in range(3 * rounds):
        assert sorted(order[20 * epoch : 20 * (epoch + 1)]) == list(range(20)), "a sample was left out or used twice"
    # every signal hit a run that was under way: 143 is the end that SIGTERM has after its save
    assert codes == (["-9", "143"] * rounds)[:rounds]
    assert not list(tmp_path.glob("killed/*.tmp.*"))
    print(f"{codes.count('-9')} times SIGKILL, {codes.count('143')} times SIGTERM, the same bits; {len(order)} samples")


def test_sigterm_saves_at_the_end_of_the_step(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    run = Run(tmp_path, every=1000, on_sigterm=True)
    with pytest.raises(SystemExit) as end:
        run.go(20, pause=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 7 else None)
    assert end.value.code == 143 and run.training.steps() == [7]
    assert signal.getsignal(signal.SIGTERM) is before
    assert Run(tmp_path, every=1000).go(20) == Run(tmp_path / "other", every=1000).go(20)


def test_the_example_is_killed_and_ends_in_the_same_bits(tmp_path):
    command = [sys.executable, str(ROOT / "examples/resume.py"), "--epochs", "4", "--kills", "2", "--every", "3"]
    command += ["--out", str(tmp_path)]
    r = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert r.returncode == 0 and "the same bits" in r.stdout, r.stdout + r.stderr
    assert (tmp_path / "resume.png").read_bytes().startswith(b"\x89PNG")
    print(r.stdout)


# ---- the loader's position


class Stream(IterableDataset):
    def __iter__(self):
        return (tg.randn(1) + i for i in range(23))


def loaders():
    data = TensorDataset(tg.arange(23))
    weights = tg.rand(23)
    g = lambda: tg.Generator().manual_seed(5)
    yield lambda: DataLoader(data, 4, shuffle=True)
    yield lambda: DataLoader(data, 4, shuffle=True, generator=g(), drop_last=True)
    yield lambda: DataLoader(data, 4, sampler=RandomSampler(data, True, 5000, generator=g()))
    yield lambda: DataLoader(data, None, sampler=WeightedRandomSampler(weights, 9))
    yield lambda: DataLoader(Stream(), 4)
    yield lambda: DataLoader(data, 4, shuffle=True, num_workers=2)
    yield lambda: DataLoader(Stream(), 4, num_workers=2)


def endless(loader):
    return itertools.chain.from_iterable(itertools.repeat(loader))


@pytest.mark.parametrize("make", list(loaders()))
def test_a_loader_goes_on_where_it_stood(make):
    whole = make()
    batches, states = [], []
    for batch in itertools.islice(endless(whole), 17):
        batches.append(batch)
        states.append((whole.state_dict(), tg.get_rng_state(), whole.epoch))
    stops = range(16) if whole.num_workers == 0 else (0, 5, 7)
    for at in stops:
        state, generator, epoch = states[at]
        again = make()
        again.load_state_dict(state)
        tg.set_rng_state(generator)
        assert again.epoch == epoch
        batch, expected = (b if isinstance(b, tg.Tensor) else b[0] for b in (next(endless(again)), batches[at + 1]))
        assert batch.tolist() == expected.tolist(), f"after batch {at}"


# ---- file operations that fail


STATES = [{"a": tg.full((50,), float(i)), "b": [tg.arange(7) * i, i], "none": tg.zeros(0)} for i in (1, 2)]


FAILURES = (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EROFS)


def which(path):
    """0 or 1: the state that the file holds, whole."""
    got = tg.load(path)
    return next(i for i, s in enumerate(STATES) if (got["a"] == s["a"]).all() and (got["b"][0] == s["b"][0]).all()
                and got["b"][1] == s["b"][1])  # fmt: skip


def operations(f, *args):
    with Faulty() as files:
        f(*args)
    return files.count


def test_every_file_operation_may_fail(tmp_path):
    """A save that raised left the old file, or the new one; one that did not has written the new one. G14."""
    path, count = tmp_path / "x.safetensors", 0
    tg.save(STATES[0], path)
    for i in range(1, operations(tg.save, STATES[0], path) + 1):
        for mode, error in [*(("error", e) for e in FAILURES), ("short", 0), ("stop", errno.EIO)]:
            tg.save(STATES[0], path)
            raised = ""
            with Faulty(i, error, mode):
                try:
                    tg.save(STATES[1], path)
                except tg.IoError as e:
                    raised = str(e)
                    assert str(tmp_path) in raised
            count += 1
            assert which(path) == 1 or raised
            if mode == "short" or (error == errno.EINTR and "rename" not in raised):
                assert not raised
            if mode != "stop":
                assert os.listdir(tmp_path) == [path.name], "a temporary file was left"
            for left in tmp_path.glob("*.tmp.*"):
                left.unlink()
    print(f"{count} faults injected into saving")


def test_every_read_may_fail(tmp_path):
    path = tmp_path / "x.safetensors"
    tg.save(STATES[1], path)
    for i in range(1, operations(tg.load, path) + 1):
        for mode, error in (("error", errno.EIO), ("error", errno.EINTR), ("short", 0)):
            with Faulty(i, error, mode):
                try:
                    tg.load(path)
                    assert error != errno.EIO or i in closing(tg.load, path)
                except tg.IoError:
                    assert error == errno.EIO or (error == errno.EINTR and "stat" in str(sys.exc_info()[1]))


def closing(f, *args):
    with Faulty() as files:
        f(*args)
    return {i + 1 for i, e in enumerate(files.journal) if e[0] == "close"}


def test_every_file_operation_of_a_training_may_fail(tmp_path):
    run = Run(tmp_path / "good", keep=2)
    run.go(4)
    hashes = {s: Run(tmp_path / "good").training.path(s) for s in (3, 4)}
    assert len(hashes) == 2
    i, faults = 0, 0
    while True:
        i += 1
        folder = tmp_path / "bad"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "good", folder)
        run = Run(folder, keep=2)
        step = run.training.restore()
        expected = run.hash()
        run.training.every = 1000
        with Faulty(i, errno.EIO, ("error", "stop")[i % 2]) as files:
            try:
                run.training.save(step + 1)
            except tg.IoError:
                faults += 1
        again = Run(folder)
        assert again.training.restore() in (step, step + 1) and again.hash() == expected
        if files.count < i:
            break
    assert faults >= 7
    print(f"{faults} faults injected into checkpoints")


def disks(journal, drop):
    """What a disk may hold when power fails after these operations, each as {path: content}.

    Data is on the disk once its file was flushed, names once their folder was; what came later may be there or not.
    The flushes with the numbers in `drop` are taken not to have happened.
    """
    names, written, flushed = {}, [], []  # path to file; by file: all that was written, and what is surely there
    folders = [names]  # what the folder on the disk may say
    flushes = 0
    for op, path, data in journal:
        if op == "open" and int(data) & os.O_CREAT:
            names = {**names, path: len(written)}
            written.append(b"")
            flushed.append(b"")
        elif op == "write":
            written[names[path]] += data
        elif op == "rename":
            names = {**{k: v for k, v in names.items() if k != path}, data.decode(): names[path]}
        elif op == "fsync":
            flushes += 1
            if flushes - 1 not in drop:
                if path in names:
                    flushed[names[path]] = written[names[path]]
                else:
                    folders = []
        if names not in folders:
            folders.append(names)
    ways = (
        lambda w, f: w,
        lambda w, f: f,
        lambda w, f: w[: (len(w) + len(f)) // 2],
        lambda w, f: f.ljust(len(w), b"\0"),
    )
    return [{p: way(written[i], flushed[i]) for p, i in names.items()} for names in folders for way in ways]


def losses(folder, drop=frozenset()):
    """Of a power loss after each operation of a save: how many disks there may be, and how many of them are wrong."""
    path = str(folder / "x.safetensors")
    with Faulty() as files:
        tg.save(STATES[0], path)
        first = len(files.journal)
        tg.save(STATES[1], path)
    seen, wrong = 0, 0
    for end in range(first, len(files.journal) + 1):
        for disk in disks(files.journal[:end], drop):
            seen += 1
            try:
                tensors, metadata = tg._C._from_safetensors(disk[path], "disk")
                number = tg.serialization._Reader(dict(tensors)).decode(json.loads(metadata["tree"]))["b"][1]
                wrong += number == 1 and end == len(files.journal)  # the save had returned
            except (KeyError, tg.FormatError):
                wrong += 1
    return seen, wrong


def test_power_loss(tmp_path):
    """Whatever was not flushed may be lost. With any one flush left out, the same test finds damage."""
    states, wrong = losses(tmp_path)
    assert wrong == 0 and states > 30
    found = [losses(tmp_path, {i})[1] for i in range(4)]
    assert all(found), "a save without one of its flushes was not caught"
    print(f"{states} states after power loss, none wrong; without a flush {found} are")


@pytest.mark.parametrize("where", ["save", "load"])
def test_every_allocation_of_save_and_load_may_fail(where, tmp_path):
    """G18: MemoryError, nothing leaked, the file whole."""
    path = tmp_path / "x.safetensors"
    tg.save(STATES[0], path)
    views = {**STATES[0], "t": tg.rand(9, 9).t()}
    live, failures = tg.memory.stats()["live"], 0
    for i in range(1, 1000):
        tg._C._fail_allocation_at(i)
        try:
            tg.save(views, path) if where == "save" else tg.load(path)
        except MemoryError:
            failures += 1
            continue
        finally:
            tg._C._fail_allocation_at(0)
        break
    assert failures >= 1 and which(path) == 0 and tg.memory.stats()["live"] == live


# ---- files that are damaged


def test_every_flipped_bit_is_found():
    """Each bit of the header, 10,000 of the body; the message names the tensor. G15."""
    tensors = [("weight", tg.randn(100, 100)), ("bias", tg.randn(100)), ("steps", tg.arange(3000))]
    good = tg._C._to_safetensors(tensors, {"note": "x"})
    start = 8 + int.from_bytes(good[:8], "little")
    ends = [start + 40_000, start + 40_400, len(good)]
    rng = np.random.default_rng(0)
    flips = [*range(8 * start), *(8 * start + rng.choice(8 * (len(good) - start), 10_000, replace=False))]
    for bit in flips:
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(tg.FormatError) as error:
            tg._C._from_safetensors(bytes(data), "x")
        if bit >= 8 * start:
            name = next(n for (n, _), end in zip(tensors, ends) if bit // 8 < end)
            assert f"tensor '{name}' does not match its checksum" in str(error.value)
    for size in range(len(good)):
        with pytest.raises(tg.FormatError):
            tg._C._from_safetensors(good[:size], "x")
    assert len(tg._C._from_safetensors(good, "x")[0]) == 3
    print(f"{len(flips)} flipped bits and {len(good)} truncations found")


ENTRY = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    "header, message",
    [
        ("{" + ENTRY + "}", None),
        ("{" + ENTRY + "}  ", None),  # padding
        ('{"__metadata__":{"k":"v"},' + ENTRY + "}", None),
        (" {" + ENTRY + "}", "from its first byte"),
        ("[1]", "not an object"),
        ("{" + ENTRY + "," + ENTRY + "}", "appears twice"),
        ('{"__metadata__":5,' + ENTRY + "}", "metadata is not an object"),
        ('{"__metadata__":{"k":1},' + ENTRY + "}", "is not a string"),
        ('{"__metadata__":{"k":"a","k":"b"},' + ENTRY + "}", "'k' appears twice"),
        ("{" + ENTRY.replace("}", ',"dtype":"I32"}') + "}", "more than one dtype"),
        ("{" + ENTRY.replace("[0,8]", '["x","y"]').replace("[2]", "[0]") + "}", "lacks"),
        ("{" + ENTRY.replace("[2]", "[02]") + "}", "starts with 0"),
        ("{" + ENTRY.replace("[2]", "[-2]") + "}", "not valid JSON"),
        ("{" + ENTRY.replace("[2]", "[2.0]") + "}", "not valid JSON"),
        ("{" + ENTRY.replace("[2]", "[4611686018427387904,4]") + "}", "too large"),
        ("{" + ENTRY.replace("[0,8]", "[4,12]") + "}", "starts at 4"),
        ("{" + ENTRY.replace("[0,8]", "[0,4]").replace("[2]", "[1]") + "}", "after the last tensor"),
        ("{" + ENTRY.replace('"a"', '"\\udc00"') + "}", "lone surrogate"),
    ],
)
def test_headers_are_read_strictly(header, message):
    data = len(header).to_bytes(8, "little") + header.encode() + bytes(8)
    if message is None:
        assert tg._C._from_safetensors(data, "x")[0][0][1].tolist() == [0, 0]
        return
    with pytest.raises(tg.FormatError, match=message):
        tg._C._from_safetensors(data, "x")


def damage(path, at=-1):
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 16
    Path(path).write_bytes(data)


def test_damaged_checkpoints_are_passed_over(tmp_path):
    Run(tmp_path, keep=3).go(6)
    run = Run(tmp_path)
    damage(run.training.path(6))
    os.truncate(run.training.path(5), 100)
    with pytest.warns(UserWarning, match="step 6 is passed over.*checksum") as seen:
        assert run.training.restore() == 4
    assert len(seen) == 2
    run.training.save(5)  # over the damaged one
    assert Run(tmp_path).training.steps() == [4, 5, 6]
    for step in (4, 5):
        damage(run.training.path(step), 20)
    with pytest.raises(tg.FormatError, match="all 3 checkpoints"), pytest.warns(UserWarning):
        Run(tmp_path).training.restore()


def test_what_a_training_refuses(tmp_path):
    run = Run(tmp_path, keep=2)
    run.go(5)
    assert run.training.steps() == [4, 5]
    with pytest.raises(tg.ValueError, match="holds step 5"):
        run.training.save(3)
    with pytest.raises(tg.ValueError, match="keep must be a positive"):
        Training(run.model, folder=tmp_path, keep=0)
    with pytest.raises(tg.TypeError, match=r"optimizer\[0\] has no state_dict"):
        Training(run.model, [3], folder=tmp_path)
    with pytest.raises(tg.ValueError, match="holds no scaler"):
        Training(
            run.model, run.optimizer, scaler=tg.amp.GradScaler("cuda"), folder=tmp_path, on_sigterm=False
        ).restore()
    with pytest.raises(tg.ValueError, match="other members"):
        Training(run.model, run.optimizer, scheduler=[run.scheduler] * 2, folder=tmp_path, on_sigterm=False).restore()
    with pytest.raises(tg.IoError, match="regular file"):
        tg.save({}, "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_background_saves_copy_first_and_report_errors(tmp_path):
    run = Run(tmp_path, background=True)
    run.training.save(1)
    expected = {k: v.clone() for k, v in run.model.state_dict().items()}
    with tg.no_grad():
        for p in run.model.parameters():
            p.zero_()
    _, content = run.training.latest()
    assert all((content["model"][k] == v).all() for k, v in expected.items())
    with Faulty(2, errno.ENOSPC):
        run.training.save(2)
        while run.training._thread.is_alive():
            threading.Event().wait(0.001)
    with pytest.raises(tg.IoError, match="No space left"):
        run.training.after(3)
    assert run.training.steps() == [1]
    run.training.save(3)
    run.training.close()
    assert run.training.steps() == [1, 3]


def test_an_error_in_the_background_is_told_when_nobody_asks(tmp_path):
    program = """
        import errno, sys
        import tinygrad_cpp as tg
        training = tg.checkpoint.Training(tg.nn.Linear(2, 2), folder=sys.argv[1], background=True)
        training.save(1)
        training.wait()
        with tg._C._FaultyFiles(2, errno.ENOSPC):
            training.save(2)
            training._thread.join()
    """
    run = [sys.executable, "-c", textwrap.dedent(program), tmp_path]
    ended = subprocess.run([str(a) for a in run], capture_output=True, text=True)
    assert ended.returncode == 0 and re.search("close.. was not called: .*No space left", ended.stderr)


# ---- how often


def test_interval_minimises_the_expected_time():
    """Against the expected time of a run with exponential failures, minimised on a grid."""
    for save, failures in ((1.0, 3600.0), (60.0, 86400.0), (300.0, 3600.0)):
        work = np.linspace(save / 100, 3 * failures, 400_000)
        cost = np.expm1((work + save) / failures) / work
        best, ours = cost.min(), best_interval(save, failures)
        assert np.expm1((ours + save) / failures) / ours <= best * 1.001
        print(f"saves of {save:g} s, a failure in {failures:g} s: every {ours:.0f} s, best {work[cost.argmin()]:.0f} s")
    assert math.isclose(best_interval(1, 1e8), math.sqrt(2e8), rel_tol=1e-3)
    assert best_interval(10, 5) == 5
    with pytest.raises(tg.ValueError, match="must be positive"):
        best_interval(1, 0)


def test_time_between_saves_follows_their_cost(tmp_path):
    run = Run(tmp_path, every=None, mean_time_between_failures=0.5)
    run.training.save(1)
    assert not run.training.after(2)
    run.training.save_seconds, run.training._since = 0.01, run.training._since - 0.095
    assert 0.09 < run.training.interval() < 0.095 and run.training.after(3)


# ---- other programs, other ways


def test_tied_weights_are_stored_once_and_tied_again(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(500, 16), nn.Linear(16, 500, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    run = Training(model, tg.optim.AdamW(model.parameters()), folder=tmp_path, on_sigterm=False)
    run.save(1)
    assert os.path.getsize(run.path(1)) < 1.5 * 500 * 16 * 4 + 20_000
    state = run.latest()[1]["model"]
    state["embed.weight"][3, 3] = 7
    assert state["head.weight"][3, 3] == 7
    other = Tied()
    Training(other, tg.optim.AdamW(other.parameters()), folder=tmp_path, on_sigterm=False).restore()
    assert other.head.weight is other.embed.weight and (other.embed.weight == model.embed.weight).all()


def test_modules_go_to_and_from_files(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(50, 4), nn.Linear(4, 50, bias=False)
            self.norm = nn.BatchNorm1d(4)
            self.head.weight = self.embed.weight

    a, b = Tied(), Tied()
    a.save(tmp_path / "a.safetensors", {"note": "x"})
    assert b.load(tmp_path / "a.safetensors") == {"note": "x"}
    assert b.head.weight is b.embed.weight
    assert all((v == b.state_dict()[k]).all() for k, v in a.state_dict().items())
    assert tg.load(tmp_path / "a.safetensors").keys() == a.state_dict().keys()
    # as other programs write it: without the names of the tie
    tensors = [(k, v) for k, v in a.state_dict().items() if k != "embed.weight"]
    tg._C._save_safetensors(tensors, {}, str(tmp_path / "b.safetensors"))
    c = Tied()
    c.load(tmp_path / "b.safetensors")
    assert (c.embed.weight == a.embed.weight).all()
    tg._C._save_safetensors(tensors[1:], {}, str(tmp_path / "c.safetensors"))
    with pytest.raises(tg.ShapeError, match=r"Missing key\(s\)"):
        c.load(tmp_path / "c.safetensors")
    with pytest.raises(tg.ValueError, match="may not be called tree"):
        a.save(tmp_path / "d.safetensors", {"tree": ""})
    tg.save([1], tmp_path / "e.safetensors")
    with pytest.raises(tg.FormatError, match="holds a list"):
        c.load(tmp_path / "e.safetensors")
    damage(tmp_path / "a.safetensors")
    with pytest.raises(tg.FormatError, match="checksum"):
        b.load(tmp_path / "a.safetensors")


def test_files_go_to_and_from_the_safetensors_package(tmp_path):
    st = pytest.importorskip("safetensors.numpy")
    from safetensors import safe_open

    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    tg.save(model.state_dict(), tmp_path / "ours.safetensors")
    theirs = st.load_file(tmp_path / "ours.safetensors")
    assert all((theirs[k] == v.numpy()).all() for k, v in model.state_dict().items()) and len(theirs) == 7
    with safe_open(tmp_path / "ours.safetensors", "numpy") as f:
        assert re.fullmatch("[0-9a-f]{8}( [0-9a-f]{8}){6}", f.metadata()["crc32.data"])
    st.save_file(theirs, tmp_path / "theirs.safetensors", {"by": "them"})
    back = tg.load(tmp_path / "theirs.safetensors")
    assert all((back[k] == v).all() for k, v in model.state_dict().items())
    assert tg._C._load_safetensors(str(tmp_path / "theirs.safetensors"))[1] == {"by": "them"}
    st.save_file(theirs, tmp_path / "kept.safetensors", safe_open(tmp_path / "ours.safetensors", "numpy").metadata())
    with pytest.raises(tg.FormatError, match="kept the old metadata"):
        tg.load(tmp_path / "kept.safetensors")


TRACED = """
    import json, sys
    sys.path.insert(0, sys.argv[1])
    import tinygrad_cpp as tg
    from test_resume import Run
    folder = sys.argv[2]
    with tg._C._FaultyFiles() as files:
        Run(folder + "/run/deep", keep=1).go(3)
        tg.save({"a": tg.ones(3)}, folder + "/a.safetensors")
        tg.save_npy(tg.ones(3), folder + "/b.npy")
        tg.save_plot(folder + "/c.png", [("loss", {"x": [1.0, 2.0]})])
        tg.nn.Linear(2, 2).save(folder + "/d.safetensors")
        with tg.profiler.profile() as profile, tg.profiler.record_function("x"):
            pass
        profile.export_chrome_trace(folder + "/trace.json")
        from tinygrad_cpp.utils.tensorboard import SummaryWriter
        with SummaryWriter(folder + "/events") as writer:
            writer.add_scalar("x", 1.0, 0)
        with tg.autograd.graph.save_on_disk(folder + "/offload", min_bytes=0):
            loss = tg.rand(9, requires_grad=True).exp().sum()
        loss.backward()
        del loss
    writes = [[op, path, data.decode("latin1") if op in ("rename", "open") else ""] for op, path, data in files.journal]
    print(json.dumps(writes))
"""


def test_nothing_bypasses_the_interface(tmp_path):
    """Under strace: the system's list of what was opened for writing, flushed, renamed and removed is the journal's.

    Checkpoints, safetensors, npy, pictures, modules, profiles, event files, values offloaded to the disk.
    """
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: 1 check left out")
    script, trace = tmp_path / "traced.py", tmp_path / "trace"
    script.write_text(textwrap.dedent(TRACED))
    (tmp_path / "out").mkdir()
    calls = "trace=open,openat,creat,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,link,truncate,ftruncate"
    command = ["strace", "-f", "-y", "-qq", "-s", "4096", "-e", calls, "-e", "status=successful", "-o", trace,
               sys.executable, "-B", script, Path(__file__).parent, tmp_path / "out"]  # fmt: skip
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    if "ptrace" in r.stderr and "not permitted" in r.stderr:
        pytest.skip("strace may not trace here: 1 check left out")
    assert r.returncode == 0, r.stderr
    journal = json.loads(r.stdout.splitlines()[-1])
    promised = [(op, path) for op, path, data in journal if op in ("fsync", "rename", "unlink", "mkdir")
                or (op == "open" and int(data) & (os.O_WRONLY | os.O_RDWR))]  # fmt: skip
    made = []
    for line in trace.read_text().splitlines():
        m = re.match(r"\d+ +(\w+?)(?:at2?)?\((.*)\) += ", line)
        if m is None:
            continue
        op, args = m[1], m[2]
        path = (
            re.search(r"<(/[^>]*)>\s*$", args)[1] if op in ("fsync", "fdatasync") else re.search(r'"([^"]*)"', args)[1]
        )
        if op in ("open", "creat") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", args):
            continue
        if not path.startswith("/dev/"):
            made.append((op, path))
    assert made == promised and len(made) > 20
    print(f"{len(made)} system calls that change files, each made through the interface")
