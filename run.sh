#!/usr/bin/env bash
# Installs tinygrad_cpp into .venv and runs the main examples.
source "$(dirname "${BASH_SOURCE[0]}")/tools/setup.sh"

setup_compiler
setup_environment
echo "building (the first time takes some minutes)"
pip_install --no-build-isolation --config-settings=build-dir=build/py .
python examples/digits.py
python examples/xyz.py
