#!/usr/bin/env bash
# Sets up .venv and runs every check; stops at the first that fails.
source "$(dirname "${BASH_SOURCE[0]}")/tools/setup.sh"

current=""
trap 'kill $(jobs -p) 2>/dev/null || true; [ -z "$current" ] || echo "FAILED: $current" >&2' EXIT

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

# build_sanitized asan|tsan. exec: what ends the shell below ends ninja, which ends its compilers.
build_sanitized() {
  cmake --preset "$1" && exec nice -n 19 ninja -C "build/$1" -j 1 tg_tests tinygrad_cuda_emu cuda_planted
}

# The Python tests use one core; the sanitizer builds take what they leave.
test_python() {
  mkdir -p build
  build_sanitized asan >build/asan.log 2>&1 &
  asan=$!
  build_sanitized tsan >build/tsan.log 2>&1 &
  tsan=$!
  python -m pytest -q tests/python
}

# finish_build PROCESS LOG
finish_build() { wait "$1" || { cat "$2" && false; }; }
finish_sanitized() { finish_build "$asan" build/asan.log && finish_build "$tsan" build/tsan.log; }

# Planted races, and a share of the tests of kernels.
test_race_checker() {
  ctest --test-dir build/tsan -R cuda_ --no-tests=error -j "$CMAKE_BUILD_PARALLEL_LEVEL" --output-on-failure
}

step "set up" set_up
step "ruff" python -m ruff check -q .
step "clang-format" check_format
step "build" build_release
step "C++ tests" test_cpp
step "kernels compiled at run time, by the emulation" test_compiled_kernels
step "instruction counts" python benchmarks/instructions.py --build build/py
step "install" install_package
step "a CUDA device and kernels of users, by the emulation" test_emulated_device
step "Python tests, beside the sanitizer builds" test_python
step "sanitizer builds" finish_sanitized
step "races in emulated kernels, and planted ones that it must report" test_race_checker
step "C++ tests under ASan and UBSan, emulated kernels as well" ctest --test-dir build/asan --output-on-failure
echo "all passed in $SECONDS s$LEFT_OUT"
