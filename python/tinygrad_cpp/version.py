"""Version of the package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tinygrad_cpp")
except PackageNotFoundError:  # run from a build tree
    __version__ = "0.0.0+source"
cuda = None
git_version = "unknown"
