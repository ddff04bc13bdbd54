"""Module classes, in PyTorch's files."""

from typing import TYPE_CHECKING

from ..._C import _nn
from . import (
    _hooks,
    activation,
    batchnorm,
    channelshuffle,
    container,
    conv,
    distance,
    dropout,
    flatten,
    fold,
    instancenorm,
    linear,
    loss,
    module,
    normalization,
    padding,
    pixelshuffle,
    pooling,
    sparse,
    upsampling,
)

_files = (
    activation,
    batchnorm,
    channelshuffle,
    container,
    conv,
    distance,
    dropout,
    flatten,
    fold,
    instancenorm,
    linear,
    loss,
    module,
    normalization,
    padding,
    pixelshuffle,
    pooling,
    sparse,
    upsampling,
)
if TYPE_CHECKING:  # the stub has the classes made by C++, the files those written in Python
    from ..._C._nn import *
    from .batchnorm import *
    from .container import *
    from .conv import *
    from .instancenorm import *
else:
    __all__ = []
    for _file in _files:
        for _name in _file.__all__:
            globals()[_name] = getattr(_file, _name)
            __all__.append(_name)
    _nn._set_python_parts(_hooks.run, {_name: globals()[_name] for _name in __all__})
