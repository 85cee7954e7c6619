from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair.learn.layers.stanh import GapDriven, Geometric, STanH, gaussian_mass  # noqa: E402

torch.manual_seed(0)


def disturbed(**options) -> STanH:
    stanh = STanH(**options).double()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        for parameter, size in ((stanh.gap, 0.8), (stanh.place, 1.0)):
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return stanh


def values(count: int = 4000, channels: int = 6, spread: float = 3.0):
    generator = torch.Generator().manual_seed(1)
    return spread * torch.randn(2, channels, count // 2, generator=generator, dtype=torch.float64)


def test_it_starts_as_rounding():
    sigma = torch.tensor(2.0, dtype=torch.float64)
    stanh, u = STanH().double().eval(), values()
    found, bits = stanh(u, gaussian_mass(sigma))
    torch.testing.assert_close(found, u.round())
    expected = torch.distributions.Normal(torch.zeros_like(sigma), sigma)
    mass = expected.cdf(u.round() + 0.5) - expected.cdf(u.round() - 0.5)
    torch.testing.assert_close(bits, -mass.clamp_min(1e-9).log2(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"symmetric": False}, {"groups": 3, "learned": 2}, {"learned": 9}])
def test_levels_and_thresholds_alternate(options):
    stanh = disturbed(**options)
    levels, thresholds = stanh.levels(), stanh.thresholds()
    assert (levels[..., 0] == 0).all()
    assert (levels[..., :-1] < thresholds).all()
    assert (thresholds < levels[..., 1:]).all()


@pytest.mark.parametrize("options", [{}, {"symmetric": False, "groups": 2}])
def test_the_soft_staircase_becomes_the_hard_one(options):
    stanh, u = disturbed(**options), values()
    stanh.eval()
    hard, hard_bits = stanh(u, gaussian_mass(torch.tensor(2.0, dtype=torch.float64)))
    stanh.train()
    far = []
    for beta in (3.0, 10.0, 1e4, 1e8):
        stanh.beta = beta
        soft, soft_bits = stanh(u, gaussian_mass(torch.tensor(2.0, dtype=torch.float64)))
        far.append((soft - hard).abs().mean().item())
    assert far == sorted(far, reverse=True)
    torch.testing.assert_close(soft, hard, atol=1e-6, rtol=0)
    torch.testing.assert_close(soft_bits, hard_bits, atol=1e-5, rtol=1e-5)


def test_levels_are_where_the_index_says():
    stanh, u = disturbed(), values()
    stanh.eval()
    index = stanh.index(u)
    edges = stanh.threshold(index), stanh.threshold(index + 1)
    assert (edges[0] <= u).all()
    assert (u <= edges[1]).all()


@pytest.mark.parametrize("symmetric", [True, False])
def test_probabilities_of_all_levels_sum_to_one(symmetric):
    stanh = disturbed(symmetric=symmetric)
    index = torch.arange(-200, 201).view(1, 1, -1)
    for sigma in (0.1, 1.0, 20.0):
        mass = gaussian_mass(torch.tensor(sigma, dtype=torch.float64))
        total = mass(stanh.threshold(index), stanh.threshold(index + 1)).sum()
        assert total.item() == pytest.approx(1, abs=1e-9)


def test_gradients_are_those_of_the_expected_loss():
    """Soft gradients against finite differences of the hard rate and distortion, over many values."""
    generator = torch.Generator().manual_seed(5)
    u = 1.3 * torch.randn(1, 1, 400_000, generator=generator, dtype=torch.float64)
    mass, weight = gaussian_mass(torch.tensor(1.3, dtype=torch.float64)), 0.3
    stanh = disturbed(learned=2)

    def hard_loss() -> float:
        stanh.eval()
        value, bits = stanh(u, mass)
        return ((u - value).square() + weight * bits).mean().item()

    stanh.train()
    stanh.beta = 400.0  # the soft loss is off by about the width of its steps, one over beta
    value, bits = stanh(u, mass)
    ((u - value).square() + weight * bits).mean().backward()
    for parameter in (stanh.gap, stanh.place):
        for at in range(2):
            with torch.no_grad():
                step = 0.02
                parameter[0, 0, at] += step
                above = hard_loss()
                parameter[0, 0, at] -= 2 * step
                below = hard_loss()
                parameter[0, 0, at] += step
            expected = (above - below) / (2 * step)
            assert parameter.grad[0, 0, at].item() == pytest.approx(expected, abs=0.008, rel=0.03)


def test_learning_a_dead_zone():
    """Laplacian residuals, rate and distortion: the first threshold moves outward, the loss falls."""
    generator = np.random.default_rng(3)
    u = torch.from_numpy(generator.laplace(0, 0.7, (1, 1, 5000)))
    stanh, mass = STanH(learned=3).double(), gaussian_mass(torch.tensor(1.0, dtype=torch.float64))
    stanh.eval()
    value, bits = stanh(u, mass)
    before = ((u - value).square() + 0.2 * bits).mean().item()
    optimiser, policy = torch.optim.Adam(stanh.parameters(), 0.03), Geometric(150)
    stanh.train()
    for step in range(150):
        stanh.beta = policy.beta(step)
        value, bits = stanh(u, mass)
        optimiser.zero_grad()
        ((u - value).square() + 0.2 * bits).mean().backward()
        optimiser.step()
    stanh.eval()
    value, bits = stanh(u, mass)
    assert ((u - value).square() + 0.2 * bits).mean().item() < before - 0.005
    assert stanh.thresholds()[0, 0, 0].item() > 0.53


def test_use_changes_nothing():
    stanh, u = disturbed(), values()
    before = {name: value.clone() for name, value in stanh.state_dict().items()}
    mass = gaussian_mass(torch.tensor(1.0, dtype=torch.float64))
    for training in (True, False):
        stanh.train(training)
        first = [x.detach() for x in stanh(u, mass)]
        again = [x.detach() for x in stanh(u, mass)]
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in stanh.state_dict().items())


def test_policies():
    policy = Geometric(100, start=3, end=20, share=0.7)
    betas = [policy.beta(step) for step in range(100)]
    assert betas[0] == 3
    assert betas[69] < 20 < betas[70] == math.inf
    driven, u = GapDriven(), values()
    driven.observe(u, u, u.round())
    assert driven.beta(1) > 10


def test_nothing_to_learn_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        STanH(learned=0)
