"""Module classes, in PyTorch's files."""

from importlib import import_module
from typing import TYPE_CHECKING

from ..._C import _nn

_files = """
activation adaptive batchnorm channelshuffle container conv distance dropout flatten fold instancenorm lazy linear loss
module normalization padding pixelshuffle pooling rnn sparse transformer upsampling
""".split()
if TYPE_CHECKING:  # the stub has the classes made by C++, the files those written in Python
    from ..._C._nn import *
    from .adaptive import AdaptiveLogSoftmaxWithLoss
    from .batchnorm import *
    from .container import *
    from .conv import *
    from .instancenorm import *
    from .lazy import *
    from .loss import CTCLoss, TripletMarginWithDistanceLoss
    from .pooling import FractionalMaxPool2d, FractionalMaxPool3d
    from .rnn import *
    from .sparse import EmbeddingBag
    from .transformer import *
else:
    __all__ = []
    for _name in _files:
        _file = import_module("." + _name, __name__)
        globals().update({_name: getattr(_file, _name) for _name in _file.__all__})
        __all__ += _file.__all__
    from . import _hooks

    _nn._set_python_parts(_hooks.run, {_name: globals()[_name] for _name in __all__})
