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

# The wheel and the C++ tests come out of one build tree.
build_release() {
  rm -rf build/wheel
  python -m pip wheel -qq --no-build-isolation --no-deps -w build/wheel \
    --config-settings=build-dir=build/py \
    --config-settings=cmake.define.TG_BUILD_TESTS=ON \
    --config-settings=cmake.define.TG_BUILD_EXAMPLES=ON \
    --config-settings=cmake.define.TG_BUILD_BENCHMARKS=ON \
    --config-settings=cmake.define.TG_WERROR=ON .
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

# exec: what ends the shell below ends ninja, which ends its compilers.
build_sanitized() {
  cmake --preset asan && exec nice -n 19 ninja -C build/asan -j "$CMAKE_BUILD_PARALLEL_LEVEL" \
    tg_tests tinygrad_cuda_emu cuda_planted
}

# The Python tests use one core; the sanitizer build takes what they leave.
test_python() {
  mkdir -p build
  build_sanitized >build/asan.log 2>&1 &
  python -m pytest -q tests/python
}

# Without the library, so it takes seconds.
test_race_checker() {
  cmake --preset tsan && ninja -C build/tsan cuda_planted && ctest --test-dir build/tsan -R cuda_planted --output-on-failure
}

finish_sanitized() { wait %% || { cat build/asan.log && false; }; }

step "set up" set_up
step "ruff" python -m ruff check -q .
step "clang-format" check_format
step "build" build_release
step "C++ tests" test_cpp
step "kernels compiled at run time, by the emulation" test_compiled_kernels
step "instruction counts" python benchmarks/instructions.py --build build/py
step "install" install_package
step "a CUDA device and kernels of users, by the emulation" test_emulated_device
step "Python tests, beside the sanitizer build" test_python
step "sanitizer build" finish_sanitized
step "races that the emulation must report" test_race_checker
step "C++ tests under ASan and UBSan, emulated kernels as well" ctest --test-dir build/asan --output-on-failure
echo "all passed in $SECONDS s"
