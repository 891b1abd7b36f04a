"""Quantisers on tensors: the values of the functions on arrays, straight-through gradients, PACT's α."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hfp8sim import InputError  # noqa: E402
from hfp8sim.formats import FixedPoint  # noqa: E402
from hfp8sim.ops import quantisers as arrays  # noqa: E402
from hfp8sim.training import quantisers  # noqa: E402
from hfp8sim.units.sites import STOCHASTIC, Draw, Place  # noqa: E402

X = 3 * torch.randn((7, 9), generator=torch.Generator().manual_seed(0))


def words(seed, step, number):
    return Draw(seed, step, number).words(Place.OPERAND, STOCHASTIC, X.numel()).reshape(X.shape)


def fixed(mode, **random):
    fmt = FixedPoint(3, 5)
    return fmt.decode(fmt.encode(X.numpy(), mode, **random))


FUNCTIONS = {
    "sawb": (lambda x: quantisers.sawb(x, "3"), lambda: arrays.sawb(X, "3").values),
    "radix4": (lambda x: quantisers.radix4(x, "odd"), lambda: arrays.radix4(X, "odd")),
    "luq": (
        lambda x: quantisers.luq(x, seed=1, step=2, number=3),
        lambda: arrays.luq(X, words(1, 2, 3), 24).values,
    ),
    "fixed point": (
        lambda x: quantisers.fixed_point(x, 3, 5, seed=1, step=2, number=3),
        lambda: fixed("stochastic", random_bits=words(1, 2, 3), bits=24),
    ),
    "fixed point, nearest": (
        lambda x: quantisers.fixed_point(x, 3, 5, "nearest-down"),
        lambda: fixed("nearest-down"),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_those_of_arrays_and_gradients_straight_through(name):
    call, expected = FUNCTIONS[name]
    x = X.clone().requires_grad_()
    y = call(x)
    assert y.dtype == torch.float32
    np.testing.assert_array_equal(y.detach().numpy(), expected().astype(np.float32))
    y.backward(dy := torch.arange(63.0).reshape(7, 9))
    assert torch.equal(x.grad, dy)
    assert call(X.double()).dtype == torch.float64


@pytest.mark.parametrize("signed", [False, True])
def test_pact_has_the_gradient_of_alpha(signed):
    x, alpha = X.clone().requires_grad_(), torch.tensor(2.0, requires_grad=True)
    y = quantisers.pact(x, alpha, 4, signed=signed)
    expected = arrays.pact(X, 2.0, 4, signed=signed).values
    np.testing.assert_array_equal(y.detach().numpy(), expected.astype(np.float32))
    y.backward(dy := torch.arange(63.0).reshape(7, 9))
    gradient = arrays.pact_gradient(X, 2.0, dy, signed=signed)
    np.testing.assert_array_equal(x.grad.numpy(), gradient.x)
    assert alpha.grad.item() == gradient.alpha != 0


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"alpha is -1\.0, must be positive"):
        quantisers.pact(X, torch.tensor(-1.0), 4)
    with pytest.raises(InputError, match="unknown SAWB grid '6'"):
        quantisers.sawb(X, "6")
