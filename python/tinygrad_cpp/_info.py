"""finfo and iinfo: limits of the element types."""

from . import _C

_FLOATS = {  # bits of the type, of its exponent, of its fraction; decimal digits that survive
    "float16": (16, 5, 10, 3),
    "bfloat16": (16, 8, 7, 2),
    "float32": (32, 8, 23, 6),
    "float64": (64, 11, 52, 15),
}


class finfo:
    """Limits of a floating-point type (the default one if none is given)."""

    def __init__(self, type: "_C.dtype | None" = None) -> None:
        t = _C.get_default_dtype() if type is None else type
        if not isinstance(t, _C.dtype) or not t.is_floating_point:
            raise _C.TypeError(f"finfo(): expected a floating-point dtype, got {t!r}; use iinfo for integers")
        self.bits, exponent, fraction, digits = _FLOATS[t.name]
        top = 2 ** (exponent - 1)
        self.dtype: _C.dtype | str = t.name
        self.eps = 2.0**-fraction
        self.max = (2.0 - self.eps) * 2.0 ** (top - 1)
        self.min = -self.max
        self.tiny = self.smallest_normal = 2.0 ** (2 - top)
        self.resolution = 10.0**-digits

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """Limits of an integer type."""

    def __init__(self, type: "_C.dtype") -> None:
        if not isinstance(type, _C.dtype) or type.is_floating_point or type is _C.bool:
            raise _C.TypeError(f"iinfo(): expected an integer dtype, got {type!r}; use finfo for floating point")
        self.bits = type.itemsize * 8
        self.dtype: _C.dtype | str = type.name
        self.max = 2 ** (self.bits - int(type.is_signed)) - 1
        self.min = -self.max - 1 if type.is_signed else 0

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
