#!/usr/bin/env bash
# Sets up .venv and runs every check; stops at the first that fails.
source "$(dirname "${BASH_SOURCE[0]}")/tools/setup.sh"

current=""
declare -A sanitizers=()
trap 'for group in "${sanitizers[@]}"; do kill -- "-$group" 2>/dev/null || true; done
  [ -z "$current" ] || echo "FAILED: $current" >&2' EXIT

# step NAME COMMAND...: runs the command, says how long it took.
step() {
  current=$1
  shift
  echo "== $current"
  local start=$SECONDS
  "$@"
  echo "== $current: ok, $((SECONDS - start)) s"
  current=""
}

set_up() {
  setup_compiler
  setup_environment
  setup_tests
}

check_format() {
  find . \( -name '.?*' -o -path ./build \) -prune -o \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
    xargs -0 -r clang-format --dry-run -Werror
}

# The wheel and the C++ tests come out of one build tree. Where there is an nvcc, a build without the plug-in fails.
build_release() {
  local cuda=(--config-settings=cmake.define.TG_CUDA=OFF)
  [ -z "${CUDACXX:-}" ] ||
    cuda=(--config-settings=cmake.define.TG_CUDA=ON --config-settings=cmake.define.CMAKE_CUDA_COMPILER="$CUDACXX")
  local fresh=--fresh
  [ ! -e build/py/.ninja_log ] || fresh=
  rm -rf build/wheel
  python -m pip wheel -qq --no-build-isolation --no-deps -w build/wheel \
    --config-settings=build-dir=build/py \
    --config-settings=cmake.define.TG_BUILD_TESTS=ON \
    --config-settings=cmake.define.TG_BUILD_EXAMPLES=ON \
    --config-settings=cmake.define.TG_BUILD_BENCHMARKS=ON \
    --config-settings=cmake.define.TG_WERROR=ON "${cuda[@]}" .
  [ -z "${CUDACXX:-}" ] || python tools/cuda_build_time.py build/py $fresh
}

# Where pip put NVRTC; the Python package finds it by itself.
test_cpp() {
  TG_CUDA_LIB_DIR=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13/lib \
    ctest --test-dir build/py --output-on-failure
}

# The text that NVRTC compiled above, executed.
test_compiled_kernels() { TG_CUDA_EMULATE=1 build/py/tg_tests -tc='rtc: *own kernels give*'; }
test_emulated_device() { TG_CUDA_EMULATE=1 python -m pytest -q tests/cuda; }

install_package() { pip_install --force-reinstall --no-deps build/wheel/*.whl; }

build_sanitized() {
  cmake --preset "$1" >/dev/null
  ninja -C "build/$1" -j 1 --quiet tg_tests tinygrad_cuda_emu cuda_planted
}

asan_steps() {
  step "build with ASan and UBSan" build_sanitized asan
  step "C++ tests under ASan and UBSan, emulated kernels as well" ctest --test-dir build/asan --output-on-failure
  step "op matrix of the emulated device under ASan and UBSan" python tests/cuda/sanitized.py build/asan
}

tsan_steps() {
  step "build with TSan" build_sanitized tsan
  step "races in emulated kernels, and planted ones that it must report" \
    ctest --test-dir build/tsan -R cuda_ --no-tests=error --output-on-failure
  step "op matrix of the emulated device under TSan, and whether every kernel ran" python tests/cuda/sanitized.py build/tsan
}

# Most steps use one core: the sanitizers take what they leave. A process group each, so that it can be ended as one.
start_sanitizers() {
  set -m
  for kind in asan tsan; do
    (
      trap '[ -z "$current" ] || echo "FAILED: $current"' EXIT
      renice -n 19 -p "$BASHPID" >/dev/null
      "${kind}_steps"
    ) >"build/$kind.log" 2>&1 </dev/null &
    sanitizers[$kind]=$!
  done
  set +m
}

# finish_sanitizer asan|tsan
finish_sanitizer() {
  local ok=0
  wait "${sanitizers[$1]}" || ok=1
  unset "sanitizers[$1]"
  cat "build/$1.log"
  return "$ok"
}

step "set up" set_up
step "ruff" python -m ruff check -q .
step "clang-format" check_format
step "build" build_release
step "install" install_package
start_sanitizers
step "C++ tests" test_cpp
step "kernels compiled at run time, by the emulation" test_compiled_kernels
step "instruction counts" python benchmarks/instructions.py --build build/py
step "a CUDA device and kernels of users, by the emulation" test_emulated_device
step "Python tests" python -m pytest -q tests/python
step "address and undefined-behaviour sanitizers, beside the steps before" finish_sanitizer asan
step "thread sanitizer, beside the steps before" finish_sanitizer tsan
echo "all passed in $SECONDS s$LEFT_OUT"
