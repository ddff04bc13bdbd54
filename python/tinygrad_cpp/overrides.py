"""PyTorch's protocol for classes that imitate tensors is not there: nothing overrides."""

from typing import Any


def has_torch_function(relevant_args: Any) -> bool:
    """False."""
    return False


def is_tensor_like(inp: Any) -> bool:
    """Whether it is a tensor."""
    from ._C import Tensor

    return isinstance(inp, Tensor)


def handle_torch_function(public_api: Any, relevant_args: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls the function."""
    return public_api(*args, **kwargs)
