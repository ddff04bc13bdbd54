"""Optimizers, the gradient scaler and clipping on a device: the CPU's bits, in few launches for many tensors."""

import math

import numpy as np
import pytest
import test_optim
import tinygrad_cpp as tg
from programs import run

# Empty, without axes, shorter than a vector, not a multiple of one, longer than one block's piece (4096 elements).
SHAPES = [(0, 3), (), (3,), (7, 5), (4096,), (3, 2741)]
FORMULAS = [(name, options) for name, options in test_optim.PAIRS if name != "Adafactor"]


def parameters(device, dtype=tg.float32, shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    values = [tg.tensor(rng.standard_normal(s).astype(np.float32)) for s in shapes]
    return [v.to(device, dtype).requires_grad_() for v in values]


def give_grads(params, seed, scale=1.0):
    for p, g in zip(params, parameters("cpu", tg.float64, [tuple(p.shape) for p in params], 100 + seed)):
        p.grad = (g.detach() * scale).to(p.device, p.dtype)


def assert_same_bits(ours, theirs, what=""):
    for i, (a, b) in enumerate(zip(ours, theirs)):
        assert a.detach().cpu().equal(b.detach().cpu()), (what, i, tuple(a.shape))


def state_of(optimizer, params):
    return [v for p in params for _, v in sorted(optimizer.state[p].items()) if isinstance(v, tg.Tensor)]


@pytest.mark.parametrize("name,options", FORMULAS, ids=str)
def test_steps_have_the_bits_of_the_cpu(name, options):
    for dtype in (tg.float32, tg.float64, tg.bfloat16, tg.float16):
        shapes = SHAPES if dtype == tg.float32 else SHAPES[:4]
        both = []
        for device in ("cpu", "cuda"):
            params = parameters(device, dtype, shapes)
            optimizer = getattr(tg.optim, name)([{"params": params[:2]}, {"params": params[2:], "lr": 0.02}], **options)
            for step in range(4):
                give_grads(params, step)
                optimizer.step()
            both.append((params, state_of(optimizer, params)))
        assert_same_bits(both[1][0], both[0][0], (name, dtype))
        assert_same_bits(both[1][1], both[0][1], (name, dtype, "state"))


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_counted_steps(name, amsgrad):
    """Corrections are powers in double on the device and on the host, so a step of size lr differs by 2^-20 of that at
    most, and a parameter of a narrower type by its rounding as well, in each of the steps."""
    lr, steps = 0.05, 4
    for dtype in (tg.float32, tg.float64, tg.bfloat16, tg.float16):
        counted, twins = parameters("cuda", dtype), parameters("cpu", dtype)
        ours = getattr(tg.optim, name)(counted, lr=lr, amsgrad=amsgrad, capturable=True)
        theirs = getattr(tg.optim, name)(twins, lr=lr, amsgrad=amsgrad)
        for step in range(steps):
            give_grads(counted, step), give_grads(twins, step)
            ours.step(), theirs.step()
        for p, t in zip(counted, twins):
            error, size = (p.cpu().double() - t.double()).detach().abs(), t.detach().double().abs()
            assert (error <= steps * (lr * 2.0**-20 + tg.finfo(dtype).eps * size)).all(), dtype


def test_layouts_that_the_kernel_does_not_take():
    """Transposed and unaligned parameters, gradients of other strides than their parameters."""
    both = []
    for device in ("cpu", "cuda"):
        base = parameters(device, shapes=[(6, 9), (50,), (8, 4)])
        params = [base[0].detach().T.requires_grad_(), base[1].detach()[1:].requires_grad_(), base[2]]
        optimizer = tg.optim.AdamW(params, lr=0.1)
        for step in range(3):
            give_grads(params, step)
            params[2].grad = params[2].grad.T.contiguous().T
            optimizer.step()
        both.append(params)
    assert not both[1][0].is_contiguous()
    assert_same_bits(both[1], both[0])


def launches(call):
    before = tg._C._cuda_launches()
    call()
    return tg._C._cuda_launches() - before


@pytest.mark.parametrize("n", [1, 300])
def test_many_tensors_need_few_launches(n):
    """A table of the kernel's arguments holds 3840 / (8 arrays + 16) tensors: 80 with the four arrays of Adam."""
    params = parameters("cuda", shapes=[(1 + i % 37,) for i in range(n)])
    twins = parameters("cpu", shapes=[(1 + i % 37,) for i in range(n)])
    optimizers = [tg.optim.Adam(params), tg.optim.Adam(twins)]
    for step in range(2):
        give_grads(params, step), give_grads(twins, step)
        optimizers[1].step()
        count = launches(optimizers[0].step)  # the first also makes the state
    assert count == math.ceil(n / 80)
    assert_same_bits(params, twins)
    give_grads(params, 9), give_grads(twins, 9)
    grads = [p.grad for p in params]
    assert launches(lambda: tg._C._unscale(grads, 0.5)) == math.ceil(n / 160)
    tg._C._unscale([p.grad for p in twins], 0.5)
    assert_same_bits(grads, [p.grad for p in twins])


@pytest.mark.parametrize("dtype", [tg.float16, tg.bfloat16], ids=str)
def test_float32_masters_of_half_parameters(dtype):
    both = []
    for device in ("cpu", "cuda"):
        params = parameters(device, dtype)
        optimizer = tg.optim.AdamW(params, lr=1e-3)
        for group in optimizer.param_groups:
            group["master_weights"] = True
        scaler = tg.amp.GradScaler(device, init_scale=8.0)
        for step in range(4):
            if step == 2:  # written from outside: the parameter wins over its copy
                with tg.no_grad():
                    params[3].fill_(0.3)
            scaler.scale(tg.ones((), device=device))
            give_grads(params, step, scale=8.0)
            if device == "cuda":
                count = launches(lambda: scaler.step(optimizer))
            else:
                scaler.step(optimizer)
            scaler.update()
        both.append((params, state_of(optimizer, params)))
    assert count == 4, count  # the look for infinities, parameters and gradients to float32, Adam, and back
    assert {t.dtype for t in both[1][1]} == {tg.float32}
    assert_same_bits(both[1][0], both[0][0])
    assert_same_bits(both[1][1], both[0][1])


@pytest.mark.filterwarnings("ignore:GradScaler")
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", [(2, 1), (3, 34), (5, 8222), (4, 0)])
def test_an_infinite_gradient_skips_the_step(bad, where):
    params = parameters("cuda")
    before = [p.detach().clone() for p in params]
    optimizer = tg.optim.SGD(params, lr=0.1)
    scaler = tg.amp.GradScaler("cuda", init_scale=4.0)
    scaler.scale(tg.ones((), device="cuda"))
    give_grads(params, 0, scale=4.0)
    i, at = where
    params[i].grad.view(-1)[at] = bad
    scaler.step(optimizer)
    assert scaler.skipped_steps == 1 and f"parameter {i} of group 0" in scaler.last_skip
    assert_same_bits(params, before)
    scaler.update()
    assert scaler.get_scale() == 2.0
    give_grads(params, 0, scale=2.0)
    want = [p.detach() - 0.1 * (p.grad * 0.5) for p in params]
    scaler.step(optimizer)
    assert_same_bits(params, want)


def test_of_several_bad_gradients_the_first_is_told():
    for dtype in (tg.float32, tg.bfloat16):
        grads = [p.detach() for p in parameters("cuda", shapes=[(5,)] * 400)]
        grads[300] = grads[300].to(dtype)
        for i in (399, 300, 250):
            grads[i][3] = math.inf
            assert tg._C._unscale(grads, 1.0) == i
    assert tg._C._unscale([], 2.0) == -1 and tg._C._unscale([tg.zeros(0, device="cuda")], 2.0) == -1


@pytest.mark.parametrize("dtype", [tg.float32, tg.float64, tg.bfloat16], ids=str)
def test_clipping_of_the_norm(dtype):
    """Squares of n float32 are exact in double and summed with a relative error below n eps64, so a norm is its own
    rounding to float32 away from the true one; the norm of norms and the factor add a few roundings more."""
    params, twins = parameters("cuda", dtype), parameters("cpu", dtype)
    give_grads(params, 1), give_grads(twins, 1)
    norm = tg.nn.utils.clip_grad_norm_(params, 0.7)
    want = np.sqrt(sum((t.grad.double() ** 2).sum().item() for t in twins))
    eps = tg.finfo(dtype).eps
    assert norm.device.type == "cuda" and abs(norm.item() - want) <= 4 * eps * want
    for p, t in zip(params, twins):
        clipped = t.grad.double() * (0.7 / (want + 1e-6))
        assert ((p.grad.cpu().double() - clipped).abs() <= 8 * eps * clipped.abs()).all()
    assert tg.nn.utils.clip_grad_norm_(params, 1.0).item() == pytest.approx(0.7 * want / (want + 1e-6), rel=16 * eps)
    params[3].grad[0, 0] = math.nan
    assert math.isnan(tg.nn.utils.clip_grad_norm_(params, 1.0).item())
    with pytest.raises(tg.Error, match="cannot be clipped"):
        tg.nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)


def test_clipping_a_gradient_that_is_listed_twice():
    """Two pieces of one launch would read and write the same memory in any order."""
    grads = []
    for device in ("cpu", "cuda"):
        w = tg.ones(9000, device=device, requires_grad=True)
        w.grad = tg.arange(9000.0).to(device)
        tg.nn.utils.clip_grad_norm_([w, w], 1.0)
        grads.append(w.grad.cpu())
    assert tg.equal(*grads)


@pytest.mark.skipif(not tg.cuda.is_emulated(), reason="needs the emulation's devices")
@pytest.mark.parametrize("norm_type", [1, 2, math.inf])
def test_clipping_over_several_devices(norm_type):
    """The norm is on the first gradient's device, as in PyTorch."""
    program = f"""
from math import inf
def clipped(*devices):
    tg.manual_seed(1)
    params = [tg.zeros(5, 3 + i, device=d, requires_grad=True) for i, d in enumerate(devices)]
    for p in params: p.grad = tg.randn(*p.shape).to(p.device)
    norm = tg.nn.utils.clip_grad_norm_(params, 0.5, {norm_type})
    assert norm.device == params[0].device
    return [norm.item(), *(x for p in params for x in p.grad.flatten().tolist())]
want = clipped("cpu", "cpu", "cpu", "cpu")
for devices in (("cuda:0", "cuda:1", "cuda:0", "cuda:1"), ("cuda:1", "cpu", "cuda:0", "cpu"), ("cpu", "cuda:1", "cpu", "cuda:0")):
    assert all(abs(a - b) < 1e-6 * max(1, abs(b)) for a, b in zip(clipped(*devices), want, strict=True))
"""
    run(program, TG_CUDA_EMULATE_DEVICES="2")
