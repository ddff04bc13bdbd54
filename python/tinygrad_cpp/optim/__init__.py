"""Optimizers, learning-rate schedulers, averages of weights."""

import sys as _sys

from .._suggest import lazy as _lazy
from . import lr_scheduler, swa_utils
from .algorithms import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop
from .lbfgs import LBFGS
from .matrix import Adafactor, Muon, SparseAdam
from .optimizer import Optimizer


def _add_module_paths() -> None:
    """PyTorch has a module for each optimizer: `from tinygrad_cpp.optim.adamw import AdamW` works, too."""
    for name, cls in list(globals().items()):
        if isinstance(cls, type) and issubclass(cls, Optimizer):
            path = {"SparseAdam": "sparse_adam"}.get(name, name.lower())
            _sys.modules.setdefault(f"{__name__}.{path}", _sys.modules[cls.__module__])
            globals().setdefault(path, _sys.modules[cls.__module__])


_add_module_paths()
__getattr__ = _lazy(__name__, globals())
