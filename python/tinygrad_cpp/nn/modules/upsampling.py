"""Upsample."""

from ._classes import in_file

globals().update(in_file(__name__))
__all__ = list(in_file(__name__))
