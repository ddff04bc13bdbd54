"""Probability distributions with PyTorch's names: sample, rsample, log_prob, entropy and kl_divergence.

Samples come from this package's generators, so they are not those PyTorch draws for the same seed. Gamma, Poisson and
binomial numbers are drawn by NumPy's generator, seeded from the default one.
"""

import re as _re
import sys as _sys

from .._suggest import lazy as _lazy
from . import constraints, kl, transforms, utils
from .continuous import Cauchy, Exponential, Gumbel, Laplace, Normal, Uniform
from .derived import HalfNormal, Independent, LogNormal, MixtureSameFamily, TransformedDistribution
from .discrete import (
    Bernoulli,
    Binomial,
    Categorical,
    Geometric,
    Multinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
    Poisson,
)
from .distribution import Distribution
from .gamma import Beta, Chi2, Dirichlet, Gamma, StudentT
from .kl import kl_divergence, register_kl
from .multivariate import MultivariateNormal
from .relaxed import (
    ExpRelaxedCategorical,
    LogitRelaxedBernoulli,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from .transforms import *


def _add_module_paths() -> None:
    """PyTorch has a module for each distribution: `tinygrad_cpp.distributions.log_normal.LogNormal` exists, too."""
    for name, cls in list(globals().items()):
        if isinstance(cls, type) and issubclass(cls, Distribution):
            module = _re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
            module = {"student_t": "studentT", "relaxed_one_hot_categorical": "relaxed_categorical"}.get(module, module)
            _sys.modules.setdefault(f"{__name__}.{module}", _sys.modules[cls.__module__])
            globals().setdefault(module, _sys.modules[cls.__module__])


_add_module_paths()
__getattr__ = _lazy(__name__, globals())
