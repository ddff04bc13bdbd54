"""L-BFGS: steps along an approximate Newton direction made of the last steps and changes of the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import _C
from .._modes import no_grad
from .algorithms import _settings
from .optimizer import Optimizer


@dataclass
class _Point:
    """The objective at `t` along a direction: value, gradient (flat), slope."""

    t: float
    value: float
    gradient: Any
    slope: float


class LBFGS(Optimizer):
    """Needs a closure that computes the loss and its gradients, which ``step`` calls up to ``max_eval`` times.

    Args:
        max_iter: iterations in one step.
        max_eval: evaluations in one step, by default 1.25 times max_iter.
        tolerance_grad: a step ends when no element of the gradient is larger.
        tolerance_change: or when the loss and no element of the parameters change more.
        history_size: how many updates the direction is made of.
        line_search_fn: "strong_wolfe", or None: every step has the length ``lr``.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if max_eval is None:
            max_eval = max_iter * 5 // 4
        super().__init__(params, _settings(locals()))
        if len(self.param_groups) != 1:
            raise _C.ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not group["lr"] >= 0:
            raise _C.ValueError(f"Invalid learning rate: {group['lr']}")
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise _C.ValueError("only 'strong_wolfe' is supported")

    @property
    def _params(self) -> list[Any]:
        return self.param_groups[0]["params"]

    def _flat_gradient(self) -> Any:
        flat = [(_C.ops.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self._params]
        return _C.ops.cat(flat)

    def _move(self, direction: Any, t: float) -> None:
        """Adds t * direction (flat) to the parameters."""
        offset = 0
        for p in self._params:
            p.add_(direction[offset : offset + p.numel()].reshape(p.shape), alpha=t)
            offset += p.numel()

    @no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:
        """Up to ``max_iter`` iterations; returns the loss at the start."""
        group, state = self.param_groups[0], self.state[self._params[0]]
        first_loss = self._evaluate(closure)
        loss, gradient = float(first_loss), self._flat_gradient()
        evaluations, iteration = 1, 0
        state.setdefault("n_iter", 0)
        state["func_evals"] = state.get("func_evals", 0) + 1
        if gradient.abs().max().item() <= group["tolerance_grad"]:
            return first_loss
        while iteration < group["max_iter"]:
            iteration += 1
            state["n_iter"] += 1
            direction = self._direction(state, gradient)
            state["prev_flat_grad"], state["prev_loss"] = gradient.clone(), loss
            t = float(group["lr"])
            if state["n_iter"] == 1:
                t *= min(1.0, 1.0 / gradient.abs().sum().item())
            state["d"], state["t"] = direction, t
            slope = gradient.dot(direction).item()
            if slope > -group["tolerance_change"]:
                break
            calls = 0
            if group["line_search_fn"] is not None:
                start = _Point(0.0, loss, gradient, slope)
                end, calls = _strong_wolfe(self._objective(closure, direction), start, t, direction.abs().max().item())
                loss, gradient, t = end.value, end.gradient, end.t
                state["t"] = t
                self._move(direction, t)
            else:
                self._move(direction, t)
                if iteration != group["max_iter"]:  # the gradient after the last iteration is not needed
                    loss, gradient, calls = float(self._evaluate(closure)), self._flat_gradient(), 1
            evaluations += calls
            state["func_evals"] += calls
            if (
                evaluations >= group["max_eval"]
                or gradient.abs().max().item() <= group["tolerance_grad"]
                or (direction * t).abs().max().item() <= group["tolerance_change"]
                or abs(loss - state["prev_loss"]) < group["tolerance_change"]
            ):
                break
        return first_loss

    def _direction(self, state: dict[str, Any], gradient: Any) -> Any:
        """Minus the approximate inverse Hessian times the gradient, after noting the last update."""
        history = self.param_groups[0]["history_size"]
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return -gradient
        change, step = gradient - state["prev_flat_grad"], state["d"] * float(state["t"])
        curvature = change.dot(step).item()
        changes, steps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        if curvature > 1e-10:
            if len(changes) == history:
                for kept in (changes, steps, ro):
                    kept.pop(0)
            changes.append(change)
            steps.append(step)
            ro.append(1.0 / curvature)
            state["H_diag"] = curvature / change.dot(change).item()
        q = -gradient
        al = state.setdefault("al", [None] * history)
        for i in reversed(range(len(changes))):
            al[i] = steps[i].dot(q).item() * float(ro[i])
            q.add_(changes[i], alpha=-al[i])
        q.mul_(float(state["H_diag"]))
        for i in range(len(changes)):
            q.add_(steps[i], alpha=al[i] - changes[i].dot(q).item() * float(ro[i]))
        return q

    def _objective(self, closure: Callable[[], Any], direction: Any) -> Callable[[float], _Point]:
        """The loss as a function of the step along `direction`; the parameters stay where they are."""
        start = [p.clone() for p in self._params]

        def at(t: float) -> _Point:
            self._move(direction, t)
            value, gradient = float(self._evaluate(closure)), self._flat_gradient()
            for p, old in zip(self._params, start):
                p.copy_(old)
            return _Point(t, value, gradient, gradient.dot(direction).item())

        return at


def _cubic_minimum(a: _Point, b: _Point, low: float, high: float) -> float:
    """Where the cubic through values and slopes at two points is least, within bounds."""
    if a.t == b.t:
        return (low + high) / 2
    left, right = (a, b) if a.t <= b.t else (b, a)
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    scale = right.slope - left.slope + 2 * d2
    if scale == 0:
        return (low + high) / 2
    at = right.t - (right.t - left.t) * (right.slope + d2 - d1) / scale
    return min(max(at, low), high)


def _strong_wolfe(
    objective: Callable[[float], _Point], start: _Point, t: float, size: float, c1: float = 1e-4, c2: float = 0.9
) -> tuple[_Point, int]:
    """A step that lowers the objective enough and flattens its slope, and the number of evaluations.

    `size` is the largest element of the direction: a bracket smaller than 1e-9 in the parameters is small enough.
    """
    longest = 25

    def too_high(p: _Point) -> bool:
        return p.value > start.value + c1 * p.t * start.slope

    def flat(p: _Point) -> bool:
        return abs(p.slope) <= -c2 * start.slope

    # walk on until the minimum is bracketed
    before, now, tries = start, objective(t), 0
    calls = 1
    while tries < longest:
        bracket = [before, now]
        if too_high(now) or (tries > 1 and now.value >= before.value):
            break
        if flat(now):
            return now, calls
        if now.slope >= 0:
            break
        further = _cubic_minimum(before, now, now.t + 0.01 * (now.t - before.t), now.t * 10)
        before, now = now, objective(further)
        calls, tries = calls + 1, tries + 1
    else:
        bracket = [start, now]

    # narrow the bracket
    def lower_end() -> int:
        return 0 if bracket[0].value <= bracket[1].value else 1

    low, stalled = lower_end(), False
    while tries < longest:
        left, right = sorted((bracket[0].t, bracket[1].t))
        if not (right - left) * size >= 1e-9:
            break
        t = _cubic_minimum(bracket[0], bracket[1], left, right)
        margin = 0.1 * (right - left)
        near = min(right - t, t - left) < margin
        if near and (stalled or t >= right or t <= left):  # away from the nearer end
            t = right - margin if abs(t - right) < abs(t - left) else left + margin
            stalled = False
        else:
            stalled = near
        now = objective(t)
        calls, tries = calls + 1, tries + 1
        if too_high(now) or now.value >= bracket[low].value:
            bracket[1 - low] = now
            low = lower_end()
        else:
            if flat(now):
                return now, calls
            if now.slope * (bracket[1 - low].t - bracket[low].t) >= 0:
                bracket[1 - low] = bracket[low]
            bracket[low] = now
    return bracket[low], calls
