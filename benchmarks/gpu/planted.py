"""A kernel that writes far beyond its memory: compute-sanitizer must report it, or it looks at nothing here.

Run apart from the kernels of kernels.py, as no work on the device goes on after it.
"""

from __future__ import annotations

NAME = "write_beyond"
SOURCE = f"""
__global__ void {NAME}(float* y, long long beyond) {{
  if (threadIdx.x == 0) y[beyond] = 1.0f;
}}"""


def main() -> None:
    import tinygrad_cpp as tg  # not where the name alone is wanted

    y = tg.empty(100, device="cuda")
    tg.cuda.RawKernel(SOURCE, NAME)(1, 32, (y, 1 << 32))  # 16 GB: no block of the allocator is there
    tg.cuda.synchronize()


if __name__ == "__main__":
    main()
