"""Programs in a process of their own, for settings that are read once."""

from __future__ import annotations

import os
import subprocess
import sys


def run(program: str, ok: bool = True, **env: str) -> str:
    """What a program prints, with tg and cuda at hand; if it must fail, what it says."""
    done = subprocess.run(
        [sys.executable, "-c", "import tinygrad_cpp as tg\ncuda = tg.cuda\n" + program],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == ok, done.stderr[-2000:]
    return done.stdout.strip() if ok else done.stderr
