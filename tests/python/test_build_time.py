"""tools/cuda_build_time.py counts the time of the plug-in's files once where they overlap, and that of others not."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN, EMULATION = "CMakeFiles/tinygrad_cuda.dir/", "CMakeFiles/tinygrad_cuda_emu.dir/"


def printed(tmp_path, *commands) -> str:
    lines = [f"{start}\t{end}\t0\t{name}\t0" for start, end, name in commands]
    (tmp_path / ".ninja_log").write_text("\n".join(["# ninja log v7", *lines, ""]))
    return subprocess.check_output([sys.executable, ROOT / "tools/cuda_build_time.py", tmp_path], text=True).strip()


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
