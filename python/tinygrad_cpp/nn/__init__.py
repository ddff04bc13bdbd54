"""Modules, their functions, initial values and helpers."""

from typing import TYPE_CHECKING

from . import functional, init, modules, parallel, parameter, utils
from ._checkpoint import Checkpoint
from .modules import *
from .parallel import DataParallel
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

if not TYPE_CHECKING:  # a checker takes every name; it cannot compute this list
    __all__ = [
        *modules.__all__,
        *"Buffer Checkpoint DataParallel Parameter UninitializedBuffer UninitializedParameter".split(),
        *"functional init modules parallel parameter utils".split(),
    ]
