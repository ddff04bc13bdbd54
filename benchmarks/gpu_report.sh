#!/usr/bin/env bash
# Builds, checks and times the CUDA backend on this machine's GPU, and writes benchmarks/reports/DATE-DEVICE.{md,json}.
#
#   benchmarks/gpu_report.sh                  all stages, within nine minutes
#   benchmarks/gpu_report.sh bench report     some of: build conformance matrix determinism sanitize bench report
#   benchmarks/gpu_report.sh fetch            (elsewhere, with a network) puts what the build needs into build/gpu/site
#   benchmarks/gpu_report.sh --dry-run        every stage with tiny sizes and without a GPU: its figures mean nothing
#
# Needs no network. PYTHON names the interpreter whose PyTorch is compared with; docs/cuda.md tells more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" benchmarks/gpu "$@"
