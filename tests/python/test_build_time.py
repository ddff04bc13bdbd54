"""tools/cuda_build_time.py counts the time of the plug-in's files once where they overlap, and that of others not."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN, EMULATION = "CMakeFiles/tinygrad_cuda.dir/", "CMakeFiles/tinygrad_cuda_emu.dir/"


def run(tmp_path, *commands, options=()) -> subprocess.CompletedProcess:
    lines = [f"{start}\t{end}\t0\t{name}\t0" for start, end, name in commands]
    (tmp_path / ".ninja_log").write_text("\n".join(["# ninja log v7", *lines, ""]))
    command = [sys.executable, ROOT / "tools/cuda_build_time.py", tmp_path, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def printed(tmp_path, *commands, options=()) -> str:
    done = run(tmp_path, *commands, options=options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_overlaps_gaps_and_others(tmp_path):
    said = printed(
        tmp_path,
        (0, 9000, EMULATION + "gemm.cpp.o"),
        (2000, 10000, PLUGIN + "gemm.cu.o"),
        (1000, 12000, PLUGIN + "map.cu.o"),
        (12000, 15000, "CMakeFiles/tg_plain.dir/nn/lr.cpp.o"),
        (15000, 16000, "libtinygrad_cuda.so"),
        (16000, 19000, "libtinygrad_cuda_emu.so"),
    )
    assert said == "CUDA part: 12 s (goal: 480 s), files: 3"


def test_the_last_build_alone(tmp_path):
    last = (500, 4500, PLUGIN + "map.cu.o")
    said = printed(tmp_path, (0, 9000, PLUGIN + "gemm.cu.o"), (0, 60000, PLUGIN + "map.cu.o"), last)
    assert said == "CUDA part: 4 s (goal: 480 s), files: 1"


def test_a_new_tree_without_the_plug_in_is_an_error(tmp_path):
    """In one that was built before there may be nothing to do."""
    others = (0, 9000, EMULATION + "gemm.cpp.o")
    ours = (0, 9000, PLUGIN + "gemm.cu.o")
    assert printed(tmp_path, others).endswith("files: 0")
    assert printed(tmp_path, others, ours, options=["--fresh"]).endswith("files: 1")
    done = run(tmp_path, others, options=["--fresh"])
    assert done.returncode == 1 and "no file of the CUDA plug-in" in done.stderr
