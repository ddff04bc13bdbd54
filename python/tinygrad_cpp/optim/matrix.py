"""Optimizers that look at rows, columns or whole matrices, written with tensor ops."""

from __future__ import annotations

import math
from typing import Any

from .. import _C
from .._info import finfo
from .._modes import no_grad
from .algorithms import _settings
from .optimizer import Optimizer


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise _C.ValueError(message)


class Adafactor(Optimizer):
    """Adam without a first mean, whose mean of squares is kept as a row and a column for each matrix.

    ``eps`` is a pair: the least mean square (None: the machine's epsilon) and the least scale of a parameter. Updates
    whose root mean square exceeds ``d`` are scaled down to it.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        (eps1, eps2), d, decay = group["eps"], group["d"], group["beta2_decay"]
        _require(group["lr"] >= 0, f"Learning rate should be >= 0 but is: {group['lr']}")
        _require(decay <= 0, f"beta2_decay should be <= 0 but is: {decay}")
        _require(eps1 is None or eps1 >= 0, f"epsilon1 should be >= 0 but is: {eps1}")
        _require(eps2 >= 0, f"epsilon2 should be >= 0 but is: {eps2}")
        _require(d >= 1, f"Clipping threshold d should be >= 1 but is: {d}")
        _require(group["weight_decay"] >= 0, f"weight_decay should be >= 0 but is: {group['weight_decay']}")

    @no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; ``closure`` computes the loss and its gradients again."""
        loss = self._evaluate(closure)
        for group, p, grad in self._with_grad():
            state = self.state[p]
            if not state:
                state["step"] = _C.tensor(0.0, device="cpu")
                if p.dim() > 1:
                    state["row_var"], state["col_var"] = _mean_squares(grad * 0)
                else:
                    state["variance"] = p * 0
            state["step"] += 1
            self._update(group, p, grad, state)
        return loss

    def _update(self, group: dict[str, Any], p: Any, grad: Any, state: dict[str, Any]) -> None:
        step, lr = state["step"].item(), float(group["lr"])
        eps1, eps2 = group["eps"]
        eps1 = finfo(p.dtype).eps if eps1 is None else eps1
        rate = min(lr, 1 / math.sqrt(step)) * max(eps2, p.norm().item() / math.sqrt(max(p.numel(), 1)))
        weight = step ** group["beta2_decay"]  # of the newest square in the mean
        p.mul_(1 - lr * group["weight_decay"])
        if p.dim() > 1:
            for mean, new in zip((state["row_var"], state["col_var"]), _mean_squares(grad)):
                mean.lerp_(new, weight)
            row, col = state["row_var"], state["col_var"]
            square = (row @ col) / row.mean(dim=-2, keepdim=True).clamp(min=eps1)
        else:
            square = state["variance"].lerp_(grad.square(), weight)
        update = grad * square.clamp(min=eps1 * eps1).rsqrt()
        rms = update.norm().item() / math.sqrt(max(update.numel(), 1))
        p.add_(update, alpha=-rate / max(1.0, rms / group["d"]))


def _mean_squares(grad: Any) -> tuple[Any, Any]:
    """The mean square of every row and of every column."""
    squares = grad.square()
    return squares.mean(dim=-1, keepdim=True), squares.mean(dim=-2, keepdim=True)


class Muon(Optimizer):
    """Momentum whose steps are made orthogonal by Newton-Schulz iterations in bfloat16; for matrices only."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        super().__init__(params, _settings(locals()))

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        _require(group["lr"] >= 0, f"Learning rate should be >= 0 but is: {group['lr']}")
        _require(group["momentum"] >= 0, f"momentum should be >= 0 but is: {group['momentum']}")
        _require(group["weight_decay"] >= 0, f"weight decay should be >= 0 but is: {group['weight_decay']}")
        adjust = group["adjust_lr_fn"]
        _require(
            adjust in (None, "original", "match_rms_adamw"), f"Adjust learning rate function {adjust} is not supported"
        )
        _require(len(group["ns_coefficients"]) == 3, "Coefficients must be a tuple of exactly 3 values")
        _require(group["ns_steps"] < 100, "Number of steps must be less than 100 for computational efficiency")
        for p in group.get("params", ()):
            _require(
                p.dim() == 2, f"Muon only supports 2D parameters whereas we found a parameter with size: {p.shape}"
            )

    @no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; ``closure`` computes the loss and its gradients again."""
        loss = self._evaluate(closure)
        for group, p, grad in self._with_grad():
            state, momentum, lr = self.state[p], group["momentum"], float(group["lr"])
            buffer = state.setdefault("momentum_buffer", p * 0)
            buffer.lerp_(grad, 1 - momentum)
            update = grad.lerp(buffer, momentum) if group["nesterov"] else buffer
            update = _orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
            rows, columns = p.shape
            if group["adjust_lr_fn"] == "match_rms_adamw":
                scale = 0.2 * math.sqrt(max(rows, columns))
            else:
                scale = math.sqrt(max(1, rows / columns))
            p.mul_(1 - lr * group["weight_decay"])
            p.add_(update.to(p.dtype), alpha=-lr * scale)
        return loss


def _orthogonal(x: Any, coefficients: tuple[float, float, float], steps: int, eps: float) -> Any:
    """A matrix with the singular vectors of x and singular values near 1."""
    a, b, c = coefficients
    wide = x.shape[0] <= x.shape[1]
    x = (x if wide else x.T).bfloat16()
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = _C.ops.addmm(x, _C.ops.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.T


class SparseAdam(Optimizer):
    """Adam that leaves alone, state included, the rows that no sample touched (embeddings).

    PyTorch takes sparse gradients here; the gradients of this package are dense, so a row whose gradient is zero
    counts as untouched.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _settings(locals()))

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        _require(group["lr"] > 0, f"Invalid learning rate: {group['lr']}")
        _require(group["eps"] > 0, f"Invalid epsilon value: {group['eps']}")
        for i, beta in enumerate(group["betas"]):
            _require(0 <= beta < 1, f"Invalid beta parameter at index {i}: {beta}")

    @no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; ``closure`` computes the loss and its gradients again."""
        loss = self._evaluate(closure)
        for group, p, grad in self._with_grad():
            state, (beta1, beta2) = self.state[p], group["betas"]
            if not state:
                state.update(step=0, exp_avg=p * 0, exp_avg_sq=p * 0)
            state["step"] += 1
            mean, square, step = state["exp_avg"], state["exp_avg_sq"], state["step"]
            touched = grad != 0
            if p.dim() > 1:
                touched = touched.flatten(1).any(dim=1).reshape([-1] + [1] * (p.dim() - 1))
            mean.add_((grad - mean) * touched, alpha=1 - beta1)
            square.add_((grad.square() - square) * touched, alpha=1 - beta2)
            rate = float(group["lr"]) * math.sqrt(1 - beta2**step) / (1 - beta1**step)
            p.add_(mean / (square.sqrt() + group["eps"]) * touched, alpha=-rate)
        return loss
