"""The examples run and do what they say."""

import hashlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tinygrad_cpp as tg

ROOT = Path(__file__).resolve().parents[2]


def run(*args, cwd, check=True):
    result = subprocess.run([str(a) for a in args], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def python_example(name, *args, cwd):
    return run(sys.executable, ROOT / "examples" / f"{name}.py", *args, cwd=cwd).stdout


def cpp_example(name):
    """The program, wherever this checkout was built; the C++ examples need a build with TG_BUILD_EXAMPLES."""
    places = [Path(os.environ["TG_BUILD"])] if "TG_BUILD" in os.environ else sorted((ROOT / "build").glob("*"))
    found = [p / "examples" / name for p in places if (p / "examples" / name).is_file()]
    if not found:
        pytest.skip("the C++ examples are not built")
    return max(found, key=lambda p: p.stat().st_mtime)


def check_png(path, panels):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 200 * panels and height >= 200


def test_xyz_python(tmp_path):
    out = python_example("xyz", cwd=tmp_path)
    assert out.count("grad_x = y, grad_y = x, grad_z = 1: right") == 2
    assert "NumPy: c = 6.7170085378" in out and "gradients equal" in out


def test_xyz_cpp(tmp_path):
    out = run(cpp_example("xyz"), cwd=tmp_path).stdout
    assert "c = " in out and "grad_z = " in out and "right" in out


def check_digits(out, folder, model):
    assert float(re.findall(r"accuracy ([\d.]+) ?%", out)[-1]) >= 97
    assert len(re.findall(r"\[#+ *\] epoch", out)) >= 5 and "predicts the same" in out
    check_png(folder / "digits.png", 2)
    assert (folder / model).stat().st_size > 10_000


def test_digits_python(tmp_path):
    start = time.perf_counter()
    out = python_example("digits", "--out", tmp_path / "made", cwd=tmp_path)
    assert time.perf_counter() - start < 10
    check_digits(out, tmp_path / "made", "digits.pt")


def test_digits_cpp(tmp_path):
    start = time.perf_counter()
    out = run(cpp_example("digits"), ROOT / "python/tinygrad_cpp/data", tmp_path, cwd=tmp_path).stdout
    assert time.perf_counter() - start < 10
    check_digits(out, tmp_path, "digits.safetensors")


def check_gpt(out):
    losses = [float(v) for v in re.findall(r"loss ([\d.]+)", out)]
    assert losses[-1] < losses[0] - 0.5
    assert re.search(r"\d+ tokens/s", out)
    assert len(out.rsplit("tokens/s\n", 1)[1]) >= 20


def test_char_gpt_python(tmp_path):
    check_gpt(python_example("char_gpt", "--steps", 20, "--sample", 20, cwd=tmp_path))
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 50)
    check_gpt(python_example("char_gpt", text, "--steps", 20, "--sample", 20, "--context", 16, cwd=tmp_path))


def test_char_gpt_cpp(tmp_path):
    program = cpp_example("char_gpt")
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 50)
    check_gpt(run(program, text, 20, cwd=tmp_path).stdout)
    short = run(program, tmp_path / "missing", cwd=tmp_path, check=False)
    assert short.returncode == 2 and "usage" in short.stderr


def test_activation_checkpointing(tmp_path):
    out = python_example("activation_checkpointing", "--layers", 4, 9, "--width", 32, "--out", tmp_path, cwd=tmp_path)
    rows = re.findall(
        r"^ *(\d+)  (\w+ ?\w*) +[\d.]+ MiB.* ([\d.]+) of the memory, ([\d.]+) of the work, (.*)$", out, re.M
    )
    assert len(rows) == 6 and all(r[4] == "gradients bit-equal" for r in rows)
    ratios = {(int(r[0]), r[1].strip()): (float(r[2]), float(r[3])) for r in rows}
    for layers in (4, 9):
        assert ratios[layers, "blocks"][0] < 0.5 and 1.25 <= ratios[layers, "blocks"][1] <= 1.34
        assert ratios[layers, "segments"][0] < 0.7 and 1 < ratios[layers, "segments"][1] <= 1.3
    check_png(tmp_path / "activation_checkpointing.png", 3)


def test_resume_cpp(tmp_path):
    """Float16 with a scaled loss, recomputed activations and checkpoints together; killed twice, the same file."""
    program, data = cpp_example("resume"), ROOT / "python/tinygrad_cpp/data"
    alone = run(program, data, tmp_path / "alone", 4, 1, cwd=tmp_path).stdout
    assert float(re.findall(r"([\d.]+) % are right", alone)[0]) > 97 and "a step is left out" in alone
    steps = []
    for how in (signal.SIGKILL, signal.SIGTERM):
        p = subprocess.Popen(
            [program, data, tmp_path / "killed", "4", "1"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        steps.append(int(re.fullmatch(r"from step (\d+)\n", p.stdout.readline())[1]))
        while not re.match("epoch", p.stdout.readline()):
            pass
        p.send_signal(how)
        p.communicate()
        assert p.returncode == (143 if how == signal.SIGTERM else -signal.SIGKILL)
    end = run(program, data, tmp_path / "killed", 4, 1, cwd=tmp_path).stdout
    steps.append(int(re.match(r"from step (\d+)\n", end)[1]))
    assert 0 == steps[0] < steps[1] < steps[2] < 4 * 56
    digests = {
        hashlib.sha256((tmp_path / run_folder / "step-000000000224.safetensors").read_bytes()).hexdigest()
        for run_folder in ("alone", "killed")
    }
    assert len(digests) == 1
    print(f"killed after steps {steps[1:]}, SHA-256 {digests.pop()} both times")


def test_data_matches_its_description():
    images = tg.load_npy(str(Path(tg.__file__).parent / "data/digits_images.npy"))
    labels = tg.load_npy(str(Path(tg.__file__).parent / "data/digits_labels.npy"))
    assert images.shape == (1797, 8, 8) and images.dtype == tg.uint8 and images.max().item() == 16
    assert labels.shape == (1797,) and sorted(set(labels.tolist())) == list(range(10))
