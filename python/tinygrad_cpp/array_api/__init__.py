"""The Python array API standard, version 2023.12, over Tensor: ``xp = x.__array_namespace__()``.

PyTorch's names and the standard's clash (axis and dim, concat and cat, the type of a sum with a 0-d operand), so the
standard's live here. There are no complex numbers, no unsigned integers but uint8, and no linalg and fft extensions;
docs/array-api.md lists everything that deviates, with reasons.
"""

from math import e, inf, nan, pi

from .._C import bool, float32, float64, int8, int16, int32, int64, uint8
from .._functions import broadcast_shapes
from ._creation import (
    arange,
    asarray,
    empty,
    empty_like,
    eye,
    from_dlpack,
    full,
    full_like,
    linspace,
    meshgrid,
    ones,
    ones_like,
    tril,
    triu,
    zeros,
    zeros_like,
)
from ._elementwise import *
from ._inspect import (
    __array_api_version__,
    __array_namespace_info__,
)
from ._reduce import (
    all,
    any,
    count_nonzero,
    cumulative_prod,
    cumulative_sum,
    diff,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)
from ._select import (
    argmax,
    argmin,
    argsort,
    isin,
    matmul,
    nonzero,
    searchsorted,
    sort,
    take,
    take_along_axis,
    tensordot,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
    vecdot,
    where,
)
from ._shapes import (
    broadcast_arrays,
    broadcast_to,
    concat,
    expand_dims,
    flip,
    matrix_transpose,
    moveaxis,
    permute_dims,
    repeat,
    reshape,
    roll,
    squeeze,
    stack,
    tile,
    unstack,
)
from ._types import (
    astype,
    can_cast,
    finfo,
    iinfo,
    isdtype,
    result_type,
)

newaxis = None


def __dir__() -> list[str]:
    return sorted(k for k in globals() if not k.startswith("_") or (k.startswith("__") and k.endswith("__")))
