"""The smallest computation graph: c = sum(x * y + z), and the gradients of c; then with NumPy's values beside NumPy."""

import numpy as np
import tinygrad_cpp as tg

N, D = 3, 4


def run(x, y, z):
    a = x * y
    b = a + z
    c = tg.sum(b)
    c.backward()
    print("c =", c.item())
    print("grad_x =", x.grad)
    print("grad_y =", y.grad)
    print("grad_z =", z.grad)
    assert tg.equal(x.grad, y) and tg.equal(y.grad, x) and tg.equal(z.grad, tg.ones_like(z))
    print("grad_x = y, grad_y = x, grad_z = 1: right")
    return c


tg.manual_seed(0)
x, y, z = (tg.rand((N, D), requires_grad=True) for _ in range(3))
run(x, y, z)

print("\nthe same with NumPy's values")
np.random.seed(0)
x, y, z = (np.random.randn(N, D) for _ in range(3))
c = np.sum(x * y + z)
grad_c = 1.0
grad_b = grad_c * np.ones((N, D))
grad_a, grad_z = grad_b.copy(), grad_b.copy()
grad_x, grad_y = grad_a * y, grad_a * x

tx, ty, tz = (tg.tensor(v, requires_grad=True) for v in (x, y, z))
tc = run(tx, ty, tz)
assert np.isclose(tc.item(), c, rtol=1e-12)
for ours, numpys in ((tx.grad, grad_x), (ty.grad, grad_y), (tz.grad, grad_z)):
    assert np.array_equal(ours.numpy(), numpys)
print(f"NumPy: c = {c}, gradients equal")
