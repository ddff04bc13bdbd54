"""Parameters as one vector and back."""

from ..._C import ValueError

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters):
    """All values in one 1-d tensor."""
    from ... import cat

    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec, parameters):
    """Writes the pieces of a 1-d tensor into the parameters."""
    from ... import no_grad

    parameters = list(parameters)
    total = sum(p.numel() for p in parameters)
    if vec.dim() != 1 or vec.numel() != total:
        raise ValueError(f"vector_to_parameters: expected {total} values in one dimension, got {tuple(vec.shape)}")
    start = 0
    with no_grad():
        for p in parameters:
            p.copy_(vec[start : start + p.numel()].view_as(p))
            start += p.numel()
