#!/usr/bin/env python3
"""Makes one C++ string of the headers that kernels compiled at run time contain: the functions of the CPU backend.

Comments, #include and #pragma once are left out: NVRTC gets no files, and a changed comment should not make stale what
was kept on disk.
"""

from __future__ import annotations

import argparse
import pathlib
import re

# In order of use.
HEADERS = (
    "core/device_code.h",
    "backends/rtc/prelude.cuh",
    "core/convert.h",
    "core/philox.h",
    "backends/scalar_special.h",
    "backends/scalar_math.h",
    "backends/random_bits.h",
)
# What such kernels are compiled against where the emulation runs them; these include standard headers themselves.
EMULATION = ("backends/cuda/emu/runtime_api.h", "backends/cuda/emu/emu.h", "backends/cuda/emu/dialect.h")
LEFT_OUT = re.compile(r"^\s*(//.*|#\s*include\b.*|#\s*pragma once)?$")
LEFT_OUT_OF_EMULATION = re.compile(r'^\s*(//.*|#\s*include\s*".*|#\s*pragma once)?$')


def text(root: pathlib.Path, headers: tuple[str, ...], left_out: re.Pattern[str]) -> str:
    lines = [line for header in headers for line in (root / header).read_text(encoding="utf-8").splitlines()]
    return "\n".join(re.sub(r"\s+//.*", "", line) for line in lines if not left_out.match(line)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    texts = {"device_text": (HEADERS, LEFT_OUT), "emulation_text": (EMULATION, LEFT_OUT_OF_EMULATION)}
    made = '#include "backends/rtc/host.h"\n#include "backends/rtc/source.h"\n\nnamespace tg::rtc {\n\n'
    for name, (headers, left_out) in texts.items():
        made += f'const char* {name}() {{\n  return R"~({text(args.root, headers, left_out)})~";\n}}\n\n'
    made += "}  // namespace tg::rtc\n"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if not args.out.exists() or args.out.read_text(encoding="utf-8") != made:
        args.out.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
