"""Prints where the installed package keeps what a C++ build needs; `estimate` what memory a training needs; `doctor`
what was found on this machine."""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    if sys.argv[1:2] == ["estimate"]:
        from tinygrad_cpp._estimate import main as estimate

        return estimate(sys.argv[2:])
    if sys.argv[1:2] == ["doctor"]:
        from tinygrad_cpp._doctor import main as doctor

        return doctor()
    home = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(prog="python -m tinygrad_cpp", description=__doc__)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--cmake-dir", action="store_true", help="folder of tinygrad_cppConfig.cmake")
    group.add_argument("--include-dir", action="store_true", help="folder of the C++ headers")
    group.add_argument("--version", action="store_true", help="version of the package")
    args = parser.parse_args()
    if args.cmake_dir:
        print(home / "cmake")
    elif args.include_dir:
        print(home / "include" / "tinygrad_cpp")
    else:
        print(version("tinygrad_cpp"))


if __name__ == "__main__":
    main()
