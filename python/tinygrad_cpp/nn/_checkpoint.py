"""Activation checkpointing as a module."""

from __future__ import annotations

from typing import Any

from ..utils.checkpoint import checkpoint
from .modules import Module

__all__ = ["Checkpoint"]


class Checkpoint(Module):
    """Runs a module without keeping what it computes: backward runs it again, with the same bits.

    Keywords are those of utils.checkpoint.checkpoint. The parameters' names get the prefix "module.".
    """

    def __init__(self, module: Module, **options: Any) -> None:
        super().__init__()
        self.module = module
        self.options = options

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(self.module, *args, **self.options, **kwargs)
