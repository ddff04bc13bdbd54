"""Parameter: a tensor that modules register as theirs."""

from .._C import Parameter

__all__ = ["Parameter"]
