"""Initial values of parameters, filled in place without recording."""

from typing import Any

from .._C._nn.init import (
    _calculate_fan_in_and_fan_out,
    calculate_gain,
    constant_,
    dirac_,
    eye_,
    kaiming_normal_,
    kaiming_uniform_,
    normal_,
    ones_,
    orthogonal_,
    sparse_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
    "_calculate_fan_in_and_fan_out",
]


def _old_name(name: str) -> Any:
    def f(*args: Any, **kwargs: Any) -> Any:
        return globals()[name + "_"](*args, **kwargs)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"The old name of {name}_."
    return f


for _name in "constant dirac eye kaiming_normal kaiming_uniform normal orthogonal sparse uniform".split():
    globals()[_name] = _old_name(_name)
xavier_normal, xavier_uniform = _old_name("xavier_normal"), _old_name("xavier_uniform")
