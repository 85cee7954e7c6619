"""The layer in a network that is not ours: a minimal hyperprior, two rates derived, real bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from torch import nn  # noqa: E402

from softstair.learn.layers.densities import LogisticMixture, gaussian_bits  # noqa: E402
from softstair.learn.layers.stanh import Geometric, STanH, gaussian_mass  # noqa: E402
from softstair.quantize.tables import integer_cdf, join  # noqa: E402

from ..tiny import photograph  # noqa: E402

ONE_RATE = torch.ones(1, 1)
LARGEST = 40  # symbol of a table
ROWS = torch.arange(-32, 56)  # of 1/8 octave


class Hyperprior(nn.Module):
    """Balle et al., ICLR 2018, with one layer a network: grey 8x8 patches, z at 1/32, no means."""

    def __init__(self, picture: torch.Tensor) -> None:
        super().__init__()
        patches = nn.functional.unfold(picture, 8, stride=8)[0]
        _, components = torch.linalg.eigh(patches @ patches.T)
        self.transform = nn.Parameter(components.flip(1)[:, :24].T.reshape(24, 1, 8, 8).clone())
        self.hyper_analysis, self.hyper_synthesis = nn.Conv2d(24, 4, 4, 4), nn.ConvTranspose2d(4, 24, 4, 4)
        self.density = LogisticMixture(1, 4)

    def analysis(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = nn.functional.conv2d(picture, self.transform, stride=8)
        return y, self.hyper_analysis(torch.log2(1 + y.abs()))

    def log_sigma(self, z_hat: torch.Tensor) -> torch.Tensor:
        return self.hyper_synthesis(z_hat)

    def synthesis(self, y_hat: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv_transpose2d(y_hat, self.transform, stride=8)


@dataclass(frozen=True)
class Staircases:
    y: STanH
    z: STanH


def train(network: Hyperprior, picture: torch.Tensor, weight: float) -> None:
    """The anchor: additive noise, as everybody does."""
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(250):
        y, z = network.analysis(picture)
        y_hat, z_hat = y + torch.rand_like(y) - 0.5, z + torch.rand_like(z) - 0.5
        sigma = torch.exp2(network.log_sigma(z_hat)).clamp(0.1, 100)
        bits = gaussian_bits(y_hat, sigma).sum() + network.density.bits(z_hat, ONE_RATE).sum()
        error = (network.synthesis(y_hat) - picture).square().sum()
        optimiser.zero_grad()
        (bits + weight * error).backward()
        optimiser.step()


def passage(network, staircases, picture):
    """Bits and squared error; gradients as far as staircases learn."""
    y, z = network.analysis(picture)
    z_hat, z_bits = staircases.z(z, network.density.mass(ONE_RATE))
    sigma = torch.exp2((8 * network.log_sigma(z_hat)).round() / 8).clamp(0.1, 100)
    y_hat, y_bits = staircases.y(y, gaussian_mass(sigma))
    return y_bits.sum() + z_bits.sum(), (network.synthesis(y_hat) - picture).square().sum()


def derive(network: Hyperprior, picture: torch.Tensor, weight: float) -> Staircases:
    staircases = Staircases(STanH(3), STanH(2))
    staircases.z.gap.requires_grad_(False)  # whole levels
    optimiser = torch.optim.Adam([staircases.y.gap, staircases.y.place, staircases.z.place], 0.05)
    policy = Geometric(80)
    for step in range(80):
        staircases.y.beta = staircases.z.beta = policy.beta(step)
        bits, error = passage(network, staircases, picture)
        optimiser.zero_grad()
        (bits + weight * error).backward()
        optimiser.step()
    staircases.y.eval()
    staircases.z.eval()
    return staircases


def tables(bits: torch.Tensor):
    """Integer tables of rows of bits (rows, 2 K + 1)."""
    rows = [np.append(np.exp2(-row), 2e-5) for row in bits.double().numpy()]
    return join([integer_cdf(row / row.sum()) for row in rows]).core


def tables_of(network, staircases):
    """Of z by channel, and of y by 1/8 octave of sigma."""
    symbols = torch.arange(-LARGEST, LARGEST + 1)[None, None]
    z = staircases.z.bits(symbols.expand(1, 4, -1)[..., None], network.density.mass(ONE_RATE))[0, :, :, 0]
    sigma = torch.exp2(ROWS / 8)[:, None, None]
    y = staircases.y.bits(symbols.expand(len(ROWS), 1, -1), gaussian_mass(sigma))[:, 0]
    return tables(z), tables(y)


def y_rows(network, z_index):
    octaves = network.log_sigma(z_index.float())
    return ((8 * octaves).round().long() - ROWS[0]).clamp(0, len(ROWS) - 1).to(torch.int16).flatten().numpy()


def z_rows(z_index):
    rows = torch.arange(4).view(1, 4, 1, 1).expand(z_index.shape)
    return rows.to(torch.int16).flatten().numpy()


def encode(network, staircases, picture) -> list[bytes]:
    y, z = network.analysis(picture)
    z_index, y_index = staircases.z.index(z), staircases.y.index(y)
    z_tables, y_tables = tables_of(network, staircases)
    return [
        coder.encode(rows, index.to(torch.int16).flatten().numpy(), 1)
        for coder, rows, index in (
            (z_tables, z_rows(z_index), z_index),
            (y_tables, y_rows(network, z_index), y_index),
        )
    ]


def decode(network, staircases, data: list[bytes], size) -> torch.Tensor:
    height, width = size[0] // 8, size[1] // 8
    z_tables, y_tables = tables_of(network, staircases)
    z_shape = (1, 4, height // 4, width // 4)
    z = z_tables.decode(data[0], z_rows(torch.empty(z_shape)), 1)
    z_index = torch.from_numpy(z.astype(np.int64)).view(z_shape)
    y = y_tables.decode(data[1], y_rows(network, z_index), 1)
    index = torch.from_numpy(y.astype(np.int64)).view(1, 24, height, width)
    return network.synthesis(staircases.y.level(index))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    grey = photograph(128, 160).astype(np.float32).mean(2) / 8  # a step of 8 grey levels, about
    picture = torch.from_numpy(grey - grey.mean())[None, None]
    network = Hyperprior(picture)
    train(network, picture, 1.0)
    return network.requires_grad_(False), picture


def test_two_rates_are_derived_and_coded(trained):
    network, picture = trained
    size, coded = picture.shape[2:], {}
    for weight in (0.6, 0.15):
        staircases = derive(network, picture, weight)
        plain = Staircases(STanH(3).eval(), STanH(2).eval())
        with torch.no_grad():
            bits, error = passage(network, staircases, picture)
            plain_bits, plain_error = passage(network, plain, picture)
            data = encode(network, staircases, picture)
            decoded = decode(network, staircases, data, size)
            expected = network.synthesis(staircases.y(network.analysis(picture)[0], gaussian_mass(1))[0])
        assert bits + weight * error < 0.99 * (plain_bits + weight * plain_error)
        assert torch.equal(decoded, expected)
        coded[weight] = 8 * sum(map(len, data))
        assert coded[weight] == pytest.approx(bits.item(), rel=0.05)
    assert coded[0.15] < coded[0.6]
