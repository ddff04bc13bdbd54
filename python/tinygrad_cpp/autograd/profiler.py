"""The same as tinygrad_cpp.profiler, under the path that older programs use."""

from ..profiler import profile, record_function

__all__ = ["profile", "record_function"]
