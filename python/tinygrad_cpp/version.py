"""Version of the package."""

from ._C import __version__ as __version__

cuda = None
git_version = "unknown"
