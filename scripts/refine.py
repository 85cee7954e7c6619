"""Latents refined for one picture by stochastic Gumbel annealing: what that would buy an encoder.

    python scripts/refine.py RECIPE SNAPSHOT PICTURE... [--positions 40,72,104] [--iterations 100]

The snapshot's networks stay; y and z of a picture (its upper left corner) are optimised for bits plus
weighed squared error, rounded at random to the level below or above, ever more surely to the nearer
(Yang, Bamler, Mandt: Improving inference for neural image compression, NeurIPS 2020). What comes out
is quantized by each mode's own search and coded with the tables of the shipped bundle, whose networks
the snapshot's must be. Printed are bits at equal error, on the slope of the mode's own curve, against
the same mode without refinement.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softstair import _core, open_bundle
from softstair.bundle import Bundle
from softstair.codec import networks_of
from softstair.codec.geometry import to_even, to_planes
from softstair.codec.tile import TileCoder
from softstair.evaluate.data import read_rgb
from softstair.learn.checkpoint import load_codec
from softstair.learn.codec import Codec
from softstair.learn.layers.densities import SIGMA_MAX, SIGMA_MIN, gaussian_bits
from softstair.learn.layers.rates import hat_weights
from softstair.learn.networks import magnitude
from softstair.learn.recipe import read_recipe
from softstair.quantize.phases import PHASES
from softstair.quantize.staircase import UNWEIGHTED

SIDE = (256, 384)
MODES = {"scalar": (0.0,), "rdoq": (0.015, 0.03, 0.045), "tcq32": (0.0, 0.02, 0.04)}
SLOPE = 8  # positions to either side that the slope is measured over
HOT, COLD = 0.5, 0.1  # temperatures
Planes = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--positions", default="40,72,104")
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--rate", type=float, default=0.005, help="of Adam, in steps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec = load_codec(read_recipe(arguments.recipe), arguments.snapshot).requires_grad_(False)
    gains = defaultdict(list)
    for path in arguments.pictures:
        pixels = read_rgb(path)[: SIDE[0], : SIDE[1]]
        for position in map(int, arguments.positions.split(",")):
            bench = Bench(open_bundle(), pixels, position)
            refined = refine(codec, pixels, position, bench, arguments.iterations, arguments.rate)
            for mode, weights in MODES.items():
                for weight in weights:
                    gains[mode, weight].append(bench.gain(mode, weight, *refined))
    print("| mode | rate weight | bits at equal error |\n| --- | --: | --: |")
    for (mode, weight), values in gains.items():
        print(f"| {mode} | {weight} | {100 * np.mean(values):+.1f} % |")


@dataclass
class Bench:
    """A picture at a rate position, coded in any mode with any latents."""

    bundle: Bundle
    pixels: npt.NDArray[np.uint8]
    position: int

    def __post_init__(self) -> None:
        self.networks = networks_of(self.bundle, 1)
        self.analysed = TileCoder(self.bundle, self.networks, "scalar").analyse(self.pixels)
        geometry = self.analysed.geometry
        self.picture = to_planes(self.pixels, geometry)
        gain = self.bundle.gain(self.position)[None, :, None, None]
        z = self.networks.hyper_analysis(to_even(self.analysed.latents), gain, self.hat(self.position))
        self.plain = (self.analysed.latents, z)

    def hat(self, position: int) -> Planes:
        return hat_weights(torch.tensor([position]), self.bundle.points).numpy()

    def slope(self, mode: str) -> float:
        """Squared error (of samples in [0, 1], summed) that a bit is worth on the mode's own curve."""
        ends = []
        for position in (self.position - SLOPE, self.position + SLOPE):
            coded = TileCoder(self.bundle, self.networks, mode).code(self.analysed, position)
            ends.append((coded.table_bits, self.error(coded.latents, position)))
        (fewer, worse), (more, better) = ends
        return (worse - better) / (more - fewer)

    def error(self, latents: Planes, position: int) -> float:
        decoded = self.networks.synthesis(latents, self.hat(position)).clip(0, 1)
        return float(np.square((255 * decoded).round() / 255 - self.picture).sum())

    def code(self, mode: str, weight: float, y: Planes, z: Planes) -> tuple[float, float]:
        """Bits by the tables, and the picture's squared error."""
        bundle, position, networks = self.bundle, self.position, self.networks
        z_hat = np.rint(z).clip(-127, 127).astype(np.float32)
        symbols = np.ascontiguousarray(z_hat[0].transpose(1, 2, 0)).astype(np.int16)
        rows, columns = y.shape[2:]
        tile = _core.TileEncoder(bundle.model(position, mode), symbols, rows, columns)
        base = networks.mean_base(z_hat, self.hat(position))[:, :, :rows, :columns]
        decoded = np.zeros_like(y)
        for phase in range(PHASES):
            tile.begin_phase()
            one_hot = np.eye(PHASES, dtype=np.float32)[phase : phase + 1]
            mean = np.ascontiguousarray(networks.mean(decoded, np.ascontiguousarray(base), one_hot)[0])
            scale, grid = bundle.inverse_step(position, mode), bundle.grid(position, mode)
            planes = np.ascontiguousarray(y[0])
            tile.quantize(planes, mean, scale, weight, grid, UNWEIGHTED, decoded[0])
        return sum(tile.cross_entropy()), self.error(decoded, position)

    def gain(self, mode: str, weight: float, y: Planes, z: Planes) -> float:
        """Share of bits at equal error that refined latents cost more than plain ones do."""
        bits, error = self.code(mode, weight, y, z)
        fewer, before = self.code(mode, self.bundle.rate_weight(mode), *self.plain)
        return (bits - fewer + (error - before) / self.slope(mode)) / fewer


def refine(
    codec: Codec, pixels: npt.NDArray[np.uint8], position: int, bench: Bench, iterations: int, rate: float
) -> tuple[Planes, Planes]:
    """Latents y (1, C, h, w) and z that cost less, as the model's own densities see it."""
    at = torch.tensor([position])
    hat = hat_weights(at, codec.shape.rate_points)
    octaves = codec.gains.log2(at, hat)
    gain, picture = torch.exp2(octaves), torch.from_numpy(bench.picture)
    slope = bench.slope("scalar")
    y = (torch.from_numpy(bench.plain[0]) * gain).requires_grad_()
    z = torch.from_numpy(bench.plain[1]).clone().requires_grad_()
    optimiser = torch.optim.Adam([y, z], betas=(0.9, 0.99))
    torch.manual_seed(0)
    for iteration in range(iterations):
        optimiser.param_groups[0]["lr"] = rate * min(1, 2 * (1 - iteration / iterations))
        heat = HOT * (COLD / HOT) ** (iteration / iterations)
        with torch.autocast("cpu", torch.bfloat16):
            bits, decoded = code(codec, y / gain, z, octaves, hat, lambda x, heat=heat: anneal(x, heat))
            error = (codec.synthesis(decoded, hat).float() - picture).square().sum()
        optimiser.zero_grad()
        (bits + error / slope).backward()
        optimiser.step()
    return (y / gain).detach().numpy(), z.detach().numpy()


def anneal(x: Tensor, heat: float) -> Tensor:
    """The level below or above, drawn by closeness; differentiable, surer the colder."""
    below = torch.floor(x)
    share = (x - below).clamp(1e-5, 1 - 1e-5)
    logits = torch.stack([-torch.atanh(share), -torch.atanh(1 - share)], -1) / heat
    return below + torch.nn.functional.gumbel_softmax(logits, heat, dim=-1)[..., 1]


def code(
    codec: Codec, y: Tensor, z: Tensor, octaves: Tensor, hat: Tensor, quantize: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Bits and y^, gradients through means, scales and the context of later phases."""
    z_hat = quantize(z)
    bits = codec.z_density.bits(z_hat, hat).sum()
    scale = codec.log_scale(z_hat, octaves, hat)
    entered, base = codec.scale_network.enter(scale), codec.mean_network.base(z_hat, hat)
    decoded, seen = torch.zeros_like(y), torch.zeros_like(y)
    for phase, mask in enumerate(codec.phase_masks(y)):
        mean = codec.mean_network(decoded, base, codec.deviation, torch.eye(PHASES)[phase][None])
        corrected = scale + codec.scale_network.correction(entered, seen, phase)
        symbols = quantize((y - mean) * torch.exp2(octaves))
        decoded = decoded + (mean + symbols * torch.exp2(-octaves)) * mask
        seen = seen + magnitude(symbols.detach()) * mask
        sigma = torch.exp2(corrected).clamp(SIGMA_MIN, SIGMA_MAX)
        bits = bits + (gaussian_bits(symbols, sigma) * mask).sum()
    return bits, decoded


if __name__ == "__main__":
    main()
