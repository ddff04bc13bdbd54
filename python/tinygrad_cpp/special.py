"""Special functions under the names that PyTorch's module `special` gives them."""

from typing import Any

from . import _C
from ._suggest import unknown_name

# name there -> op of the table; other names are the same
_OTHER = {"expit": "sigmoid", "gammaln": "lgamma", "psi": "digamma", "multigammaln": "mvlgamma"}
_SAME = """digamma erf erfc erfinv exp2 expm1 log1p log_softmax logit logsumexp polygamma round sinc softmax xlogy
gammainc gammaincc i0 i0e i1 i1e ndtr ndtri log_ndtr entr xlog1py zeta erfcx""".split()


def __getattr__(name: str) -> Any:
    target = _OTHER.get(name, name if name in _SAME else "")
    for module in (_C.ops, _C.nn_functional):
        if target and hasattr(module, target):
            return getattr(module, target)
    raise AttributeError(unknown_name(__name__, name, __dir__()))


def __dir__() -> list[str]:
    return [n for n in [*_OTHER, *_SAME] if hasattr(_C.ops, _OTHER.get(n, n)) or hasattr(_C.nn_functional, n)]
