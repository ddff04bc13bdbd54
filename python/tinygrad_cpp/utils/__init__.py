"""Helpers around training."""

from .._suggest import lazy

# imported when they are asked for: worker processes and file formats cost time that most programs need not spend
__getattr__ = lazy(
    __name__,
    globals(),
    ["_pytree", "benchmark", "checkpoint", "cpp_extension", "data", "model_zoo", "plot", "tensorboard"],
)
