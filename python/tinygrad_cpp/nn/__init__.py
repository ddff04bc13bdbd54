"""Modules, their functions, initial values and helpers."""

from typing import TYPE_CHECKING

from . import functional, init, modules, parameter, utils
from .modules import *
from .parameter import Parameter

if not TYPE_CHECKING:  # a checker takes every name; it cannot compute this list
    __all__ = [*modules.__all__, "Parameter", "functional", "init", "modules", "parameter", "utils"]
