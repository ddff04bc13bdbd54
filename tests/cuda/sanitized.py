"""The op matrix of the emulated device over a library and kernels that were built with sanitizers.

    python tests/cuda/sanitized.py build/asan      # or build/tsan; after ctest there

The extension module is the usual one: the loader is told to take the library from the build, and the emulation lies beside
it. Before the tests run, a bug is planted in a kernel from here, which must be reported, and an honest call must not. Under
ThreadSanitizer optimizers and graphs are tested as well, and no kernel may be left that was launched neither here nor by
the C++ tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from launched import demangled, instantiations, launched

HERE = Path(__file__).resolve().parent
# Without those of failing kernels, which are compiled in a process for each.
MORE = ("test_updates.py", "test_graphs.py", "-k", "not failing_kernel")

# A tensor over the memory of another, with sizes and strides that nobody has checked.
PROGRAM = """
import ctypes, sys
import tinygrad_cpp as tg

libraries = {line.split()[-1] for line in open("/proc/self/maps") if "libtinygrad" in line}
x = tg.ones(2, 128, device="cuda")
libraries |= {line.split()[-1] for line in open("/proc/self/maps") if "libtinygrad" in line}
print(*sorted(libraries))

class Tensor(ctypes.Structure):  # DLTensor
    _fields_ = [("data", ctypes.c_void_p), ("device", ctypes.c_int32 * 2), ("ndim", ctypes.c_int32), ("dtype", ctypes.c_uint32),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64))]

def with_memory_of(x, columns, stride):
    capsule = x.__dlpack__()
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    t = ctypes.cast(pointer(capsule, b"dltensor"), ctypes.POINTER(Tensor)).contents
    t.shape[1], t.strides[0] = columns, stride
    class Holder:
        def __dlpack__(self, **_): return capsule
        def __dlpack_device__(self): return x.__dlpack_device__()
    return tg.from_dlpack(Holder())

y = with_memory_of(x, int(sys.argv[1]), int(sys.argv[2]))
y.copy_(tg.randn(*y.shape, device="cuda"))
tg.cuda.synchronize()
print("done")
"""
# Columns, and from row to row: as it is; beyond the end; rows that overlap, so that two CUDA threads write one address.
HONEST, TOO_LONG, OVERLAPPING = ("128", "128"), ("129", "128"), ("128", "1")


def environment(build: Path) -> tuple[dict[str, str], str]:
    """What runs Python over the build's library, and how its sanitizer reports the bug that is planted for it."""
    threads = "fsanitize=thread" in (build / "build.ninja").read_text()
    compiler = os.environ.get("CXX", "c++")

    def library(name: str) -> str:
        command = [compiler, f"-print-file-name={name}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    # The C++ runtime as well: the sanitizer must find what throws exceptions, which Python alone has not loaded.
    preload = [library("libtsan.so" if threads else "libasan.so"), library("libstdc++.so.6")]
    settings = {
        "LD_PRELOAD": ":".join(preload),
        "LD_LIBRARY_PATH": str(build),
        "PYTHONMALLOC": "malloc",
        "TG_CUDA_EMULATE": "1",
        "TG_CUDA_PLUGIN": "",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps memory to its end
        "TSAN_OPTIONS": "halt_on_error=1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return {**os.environ, **settings}, "ThreadSanitizer: data race" if threads else "AddressSanitizer: use-after-poison"


def planted(env: dict[str, str], what: tuple[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", PROGRAM, *what], env=env, capture_output=True, text=True, check=False)


def pytest(env: dict[str, str], *arguments: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_op_matrix.py", *arguments]
    return subprocess.run(command, env=env, cwd=HERE, check=False).returncode == 0


def every_kernel(folder: Path, library: Path) -> bool:
    """Whether each kernel of the library, a template with each of its arguments, was launched since it was built, by
    what ran here or by the C++ tests, which ctest runs before."""
    there = instantiations(library)
    fresh = [file for file in folder.iterdir() if file.stat().st_mtime > library.stat().st_mtime]
    left_out = there.keys() - launched(fresh, library)
    of = f"kernels of {library.name} were launched under the sanitizer"
    print(f"{len(there) - len(left_out)} of {len(there)} {of}", flush=True)
    for name in demangled(there[place] for place in left_out):
        print(f"never launched: {name}")
    return not left_out


def main() -> int:
    build = Path(sys.argv[1]).resolve()
    env, report = environment(build)
    library, kernels = build / "libtinygrad_cuda_emu.so", build / "kernels"
    honest = planted(env, HONEST)
    wanted = f"{build}/libtinygrad_cpp.so {library}\ndone\n"
    if honest.returncode or honest.stdout != wanted:
        print("an honest call:", honest.stdout, honest.stderr[-4000:], sep="\n")
        return 1
    bug = planted(env, OVERLAPPING if "Thread" in report else TOO_LONG)
    if bug.returncode == 0 or report not in bug.stderr or "_kernel" not in bug.stderr:
        print(f"a planted bug was not reported ({report}):", bug.stdout, bug.stderr[-4000:], sep="\n")
        return 1
    print(f"{build.name}: a planted bug was reported ({report})", flush=True)
    if "Thread" not in report:
        return int(not pytest(env, *sys.argv[2:]))
    for old in kernels.glob("python.*"):
        old.unlink()
    env["TG_EMU_KERNELS"] = str(kernels / "python.%p")
    return int(not (pytest(env, *MORE, *sys.argv[2:]) and every_kernel(kernels, library)))


if __name__ == "__main__":
    sys.exit(main())
