"""Recurrent layers and cells: written in C++; here are PyTorch's constructors and packed sequences."""

from __future__ import annotations

import numbers
import warnings
from typing import Any

from ..._C import TypeError, ValueError
from ..._C._nn import RNNBase, RNNCellBase
from ._classes import at_home

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "RNNCellBase"]
at_home(__name__, RNNBase, RNNCellBase)

_NONLINEARITIES = {"tanh": "RNN_TANH", "relu": "RNN_RELU"}


def _mode(layer: str, nonlinearity: str) -> str:
    if nonlinearity not in _NONLINEARITIES:
        raise ValueError(f"{layer}: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
    return _NONLINEARITIES[nonlinearity]


class _Layers(RNNBase):
    """What RNN, LSTM and GRU share."""

    def _init(self, mode: str, input_size: int, hidden_size: int, num_layers: int, dropout: float, *rest: Any) -> None:
        name = type(self).__name__
        for what, value in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(value, int):
                raise TypeError(f"{name}: {what} must be an int, not {type(value).__name__}")
        if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout must be a number in [0, 1], got {dropout!r}")
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"{name}: dropout acts between layers, so dropout={dropout} has no effect with num_layers=1",
                stacklevel=3,
            )
        bias, batch_first, bidirectional, proj_size, device, dtype = rest
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(mode, *sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype)

    def forward(self, input, hx=None):
        """(output, last state) of a padded batch, a single sequence, or a PackedSequence."""
        if not isinstance(input, tuple):  # a PackedSequence is one
            return self._run(input, hx)
        packed: Any = type(input)
        data, batch_sizes, order, back = input
        output, state = self._run_packed(data, batch_sizes.tolist(), _reorder(hx, order))
        return packed(output, batch_sizes, order, back), _reorder(state, back)

    def flatten_parameters(self) -> None:
        """Nothing to do: the parameters are used where they are."""

    @property
    def _flat_weights(self) -> list:
        return [w for layer in self.all_weights for w in layer]


def _reorder(state: Any, order: Any) -> Any:
    if state is None or order is None:
        return state
    if isinstance(state, (tuple, list)):
        return tuple(_reorder(s, order) for s in state)
    return state.index_select(1, order)


class RNN(_Layers):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu, over (time, batch, features)."""

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        nonlinearity="tanh",
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
        device=None,
        dtype=None,
    ):
        mode = _mode("RNN", nonlinearity)
        rest = (bias, batch_first, bidirectional, 0, device, dtype)
        self._init(mode, input_size, hidden_size, num_layers, dropout, *rest)

    @property
    def nonlinearity(self) -> str:
        return "relu" if self.mode == "RNN_RELU" else "tanh"


class LSTM(_Layers):
    """Long short-term memory over (time, batch, features); proj_size > 0 projects the hidden state."""

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
        proj_size=0,
        device=None,
        dtype=None,
    ):
        rest = (bias, batch_first, bidirectional, proj_size, device, dtype)
        self._init("LSTM", input_size, hidden_size, num_layers, dropout, *rest)


class GRU(_Layers):
    """Gated recurrent units over (time, batch, features)."""

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
        device=None,
        dtype=None,
    ):
        rest = (bias, batch_first, bidirectional, 0, device, dtype)
        self._init("GRU", input_size, hidden_size, num_layers, dropout, *rest)


class RNNCell(RNNCellBase):
    """One step of RNN on (batch, features)."""

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None):
        super().__init__(_mode("RNNCell", nonlinearity), input_size, hidden_size, bias, device, dtype)

    @property
    def nonlinearity(self) -> str:
        return "relu" if self._mode == "RNN_RELU" else "tanh"


class LSTMCell(RNNCellBase):
    """One step of LSTM on (batch, features); the state is (h, c)."""

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__("LSTM", input_size, hidden_size, bias, device, dtype)


class GRUCell(RNNCellBase):
    """One step of GRU on (batch, features)."""

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__("GRU", input_size, hidden_size, bias, device, dtype)
