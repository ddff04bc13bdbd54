"""Modules, their functions, initial values and helpers."""

from . import functional, init, modules, parameter, utils
from .modules import *
from .parameter import Parameter

__all__ = [*modules.__all__, "Parameter", "functional", "init", "modules", "parameter", "utils"]
