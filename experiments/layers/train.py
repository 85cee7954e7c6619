"""What training for layers would buy, as a Markdown table: the scale network, or the synthesis.

    python -m experiments.layers.train PHOTOGRAPHS.tar HELDOUT.tar [--seconds 60] > results/layers-trained.md

Each arm begins with the bundle as it is and learns on crops of photographs in files of three layers. The
scale network learns what symbols of the first layer and children of the others cost, whose shares by row
are learned, too; half of its crops are in the bundle's own mode, whose files are to keep what they have. The
synthesis learns to make pictures of what a decoder has behind each cut. Then photographs that were held
out are coded: bits at equal quality at each cut, against files of the bundle as it is, between those of last
layers 16 positions apart. Tables of the first layer are measured anew on the crops for either scale network.
What is decoded is not smoothed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor, nn

import softstair
from softstair.codec import networks_of
from softstair.codec.tile import Analysed, CodedTile, Symbols, TileCoder
from softstair.evaluate import markdown_table, psnr, ssimulacra2
from softstair.learn.codec import Codec
from softstair.learn.data import load_pictures
from softstair.learn.distortion import distortion
from softstair.learn.export.imported import Imported, import_bundle
from softstair.learn.integer.measure import with_tables_of
from softstair.learn.integer.weights import integer_weights
from softstair.learn.layers.densities import SIGMA_MAX, SIGMA_MIN, gaussian_bits
from softstair.learn.layers.rates import hat_weights, multiplier
from softstair.learn.networks import magnitude
from softstair.mode import POSITIONS_PER_LAYER, Mode
from softstair.quantize.phases import PHASES
from softstair.quantize.rates import POSITIONS_PER_OCTAVE, interpolate
from softstair.quantize.setting import Integers

Pixels = npt.NDArray[np.uint8]
LAYERS, LAST, AROUND = 3, 116, (100, 116, 132)
SIDE, CROPS, COUNT, LARGEST, HELD_OUT = 256, 24, 3, 384, 4
KINDS = 4  # of parents, by magnitude, whose children have shares of their own
RATES = {"scale network": 3e-4, "synthesis": 1e-4}  # of Adam
RATE_OF_SHARES = 0.05
JUDGES: dict[str, Callable[[Pixels, Pixels], float]] = {"PSNR": psnr, "SSIMULACRA 2": ssimulacra2}


@dataclass(frozen=True)
class Sample:
    """Symbols of a crop as coded.

    z_hat: (1, Z, h / 2, w / 2). levels, before: (1, C, h, w), of a layer and of the one before,
    None before the first. octaves: log2 of one over its step, (1, C, 1, 1). position: of its steps.
    picture: (1, 3, H, W). decoded: y^.
    """

    z_hat: Tensor
    levels: Tensor
    before: Tensor | None
    octaves: Tensor
    position: int
    picture: Tensor
    decoded: Tensor


def squares(pictures: Sequence[Pixels], count: int, seed: int) -> list[Pixels]:
    """Parts of pictures."""
    rng, found = np.random.default_rng(seed), []
    large = [one for one in pictures if min(one.shape[:2]) >= SIDE]
    for _ in range(count):
        one = large[int(rng.integers(len(large)))]
        top, left = (int(rng.integers(side - SIDE + 1)) for side in one.shape[:2])
        found.append(np.ascontiguousarray(one[top : top + SIDE, left : left + SIDE]))
    return found


def planes(values: npt.NDArray[np.int16]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))[None].astype(np.float32))


def octaves_of(integers: Integers, position: int, finer: int, step: int) -> Tensor:
    exponent = interpolate(integers.gains, position) + finer - step
    return torch.from_numpy(exponent.astype(np.float32))[None, :, None, None] / POSITIONS_PER_OCTAVE


def in_layers(bundle: softstair.Bundle, coder: TileCoder, pixels: Pixels, first: int) -> list[Sample]:
    """The layers of a crop."""
    analysed = coder.analyse(pixels)
    coded = coder.code(analysed, first)
    picture = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32)) / 255
    found, before = [], None
    for layer in range(LAYERS):
        symbols = read(coder, analysed, coded, first, layer)
        decoded = torch.from_numpy(coder.reconstruct(symbols, first))
        levels, finer = planes(symbols.y), first + POSITIONS_PER_LAYER * layer
        octaves = octaves_of(bundle.integers, first, finer, 0)
        found.append(Sample(planes(symbols.z), levels, before, octaves, finer, picture, decoded))
        before = levels
    return found


def read(coder: TileCoder, analysed: Analysed, coded: CodedTile, first: int, layer: int) -> Symbols:
    """Symbols of a layer."""
    payload = coded.payload[: coded.layer_ends[layer]]
    return coder.read_symbols(payload, analysed.geometry, first)


def in_own_mode(bundle: softstair.Bundle, coder: TileCoder, pixels: Pixels, position: int) -> Sample:
    """A crop without layers."""
    begun = coder.begin(coder.analyse(pixels), position)
    decided = coder.decide(begun)
    step = bundle.integers.codings[coder.mode].staircase.step
    octaves = octaves_of(bundle.integers, position, position, step)
    unit = 0.5 if coder.mode.is_trellis else 1.0
    picture = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32)) / 255
    decoded = torch.from_numpy(decided.latents)
    symbols = planes(decided.tile.symbols) * unit
    return Sample(planes(begun.z), symbols, None, octaves, position, picture, decoded)


class Shares(nn.Module):
    """Of a parent's children: log-odds that it is split, by its magnitude and the scale of its row."""

    def __init__(self) -> None:
        super().__init__()
        self.curve = nn.Parameter(torch.zeros(KINDS, 3))

    def bits(self, before: Tensor, levels: Tensor, log_scale: Tensor) -> Tensor:
        """What children cost beyond signs, of the latents that have any."""
        a, b, c = self.curve[before.abs().clamp(max=KINDS - 1).long()].unbind(-1)
        odds = a + b * log_scale + c * log_scale**2
        is_split = (levels.abs() - 2 * before.abs()).clamp(0, 1)
        cost = nn.functional.binary_cross_entropy_with_logits(odds, is_split, reduction="none")
        return cost / np.log(2)


def scale_bits(codec: Codec, shares: Shares, sample: Sample) -> Tensor:
    """Bits of symbols, or of children, by the scale network as it is."""
    network, hat = codec.scale_network, hat_weights(torch.tensor([sample.position]), codec.shape.rate_points)
    scale = codec.log_scale(sample.z_hat, sample.octaves, hat)[..., : sample.levels.shape[2], :]
    scale = scale[..., : sample.levels.shape[3]]
    entered, total = network.enter(scale), torch.zeros(())
    new, masks = magnitude(sample.levels), codec.phase_masks(sample.levels)
    old = torch.zeros_like(new) if sample.before is None else magnitude(2 * sample.before)
    for phase, mask in enumerate(masks):
        known = sum((new * one for one in masks[:phase]), torch.zeros_like(new))
        known = known + sum((old * one for one in masks[phase + 1 :]), torch.zeros_like(new))
        as_if = phase if sample.before is None else PHASES - 1
        log_scale = scale + network.correction(entered, known, as_if)
        if sample.before is None:
            bits = gaussian_bits(sample.levels, torch.exp2(log_scale).clamp(SIGMA_MIN, SIGMA_MAX))
        else:
            coded = (sample.before != 0) | (log_scale > np.log2(SIGMA_MIN))
            bits = shares.bits(sample.before, sample.levels, log_scale) * coded
        total = total + (bits * mask).sum()
    return total / sample.picture[0, 0].numel()


def learned(parts: dict[float, list[nn.Parameter]], cost: Callable[[int], Tensor], seconds: float) -> int:
    """Train parts, by their rates, for a time; how many steps there were."""
    groups = [{"params": some, "lr": rate, "rate": rate} for rate, some in parts.items()]
    optimiser, begun, step = torch.optim.Adam(groups, betas=(0.9, 0.98)), time.process_time(), 0
    while (share := (time.process_time() - begun) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = group["rate"] * min(1.0, (step + 1) / 50) * (1 - share)
        optimiser.zero_grad(set_to_none=True)
        loss = cost(step)
        loss.backward()
        for group in optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            sys.stderr.write(f"{step} {loss.item():.4f}\n")
    return step


def drawn(samples: Sequence[Sample], step: int) -> list[Sample]:
    rng = np.random.default_rng(step)
    return [samples[int(i)] for i in rng.integers(len(samples), size=COUNT)]


def picture_cost(imported: Imported, codec: Codec, sample: Sample) -> Tensor:
    hat, rates = hat_weights(torch.tensor([sample.position]), codec.shape.rate_points), imported.rates
    picture = codec.synthesis(sample.decoded, hat).float()
    weight = multiplier(torch.tensor([sample.position]), rates.base)
    error = distortion(rates.distortion, picture, sample.picture, rates.mixture)
    return (weight ** (1 - rates.balance) * error).mean()


@dataclass(frozen=True)
class Arm:
    """What is measured: integers to code with, and a synthesis."""

    integers: Integers
    synthesis: nn.Module


def with_scales(bundle: softstair.Bundle, codec: Codec, crops: Sequence[Pixels]) -> Integers:
    """The bundle's integers with a codec's scale network, and tables of rdoq that fit it."""
    integers, mode = replace(bundle.integers, scale=integer_weights(codec)), Mode.RDOQ
    coder = TileCoder(integers, networks_of(bundle, 1), mode)
    begun = [coder.begin(coder.analyse(one), 20 + 8 * (i % 12)) for i, one in enumerate(crops)]
    coding = with_tables_of(coder, integers.codings[mode], begun)
    return replace(integers, codings={**integers.codings, mode: coding})


@torch.no_grad()
def measured(
    bundle: softstair.Bundle, arm: Arm, pictures: Sequence[Pixels], last: int
) -> npt.NDArray[np.float64]:
    """(pictures, layers, 1 + judges): bytes of payloads up to each cut, and what judges say."""
    coder = TileCoder(arm.integers, networks_of(bundle, 1), Mode.RDOQ, layers=LAYERS)
    first, rows = last - POSITIONS_PER_LAYER * (LAYERS - 1), []
    for pixels in pictures:
        analysed = coder.analyse(pixels)
        coded = coder.code(analysed, first)
        for layer, end in enumerate(coded.layer_ends):
            symbols = read(coder, analysed, coded, first, layer)
            hat = hat_weights(torch.tensor([first + POSITIONS_PER_LAYER * layer]), bundle.points)
            made = arm.synthesis(torch.from_numpy(coder.reconstruct(symbols, first)), hat)[0]
            shown = np.rint(made.clamp(0, 1).numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
            shown = np.ascontiguousarray(shown)
            rows.append([end, *(judge(pixels, shown) for judge in JUDGES.values())])
    return np.array(rows, np.float64).reshape(len(pictures), LAYERS, -1)


def bits_at_equal(
    base: list[npt.NDArray[np.float64]], found: npt.NDArray[np.float64], judge: int
) -> list[float]:
    """Per cent of bits, cut by cut, against files of the bundle as it is."""
    percents = []
    for layer in range(LAYERS):
        logs = []
        for index, (size, *marks) in enumerate(found[:, layer]):
            curve = np.array([one[index, layer] for one in base])
            own = PchipInterpolator(curve[:, 1 + judge], np.log(curve[:, 0]), extrapolate=True)(marks[judge])
            logs.append(np.log(size) - own)
        percents.append(100 * np.expm1(np.mean(logs)))
    return percents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--seconds", type=float, default=60, help="of the processor, to train each arm")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    bundle = softstair.open_bundle()
    imported = import_bundle(bundle)
    crops = squares(load_pictures([arguments.photographs]), CROPS, 1)
    layered = TileCoder(bundle, networks_of(bundle, 1), Mode.RDOQ, layers=LAYERS)
    mode = Mode(bundle.manifest.encoding.mode)
    own = TileCoder(bundle, networks_of(bundle, 1), mode)
    of_layers = [
        one for i, crop in enumerate(crops) for one in in_layers(bundle, layered, crop, 36 + i * 7 % 33)
    ]
    refined = [one for one in of_layers if one.before is not None]
    of_own = [
        in_own_mode(bundle, own, crop, i * 29 % (bundle.last_position + 1)) for i, crop in enumerate(crops)
    ]
    sys.stderr.write(f"{len(of_layers)} layers, {len(of_own)} crops\n")

    def scale_cost(codec: Codec, shares: Shares, others: Sequence[Sample]) -> Callable[[int], Tensor]:
        def cost(step: int) -> Tensor:
            some = [*drawn(of_layers, 2 * step), *drawn(others, 2 * step + 1)]
            return sum((scale_bits(codec, shares, one) for one in some), torch.zeros(())) / len(some)

        return cost

    def synthesis_cost(codec: Codec) -> Callable[[int], Tensor]:
        def cost(step: int) -> Tensor:
            some = [picture_cost(imported, codec, one) for one in drawn(of_layers, step)]
            return sum(some, torch.zeros(())) / len(some)

        return cost

    arms: dict[str, Codec] = {}
    steps: dict[str, int] = {}
    for name, rate in RATES.items():
        codec, shares = deepcopy(imported.codec).requires_grad_(False), Shares()
        network: nn.Module = codec.synthesis if name == "synthesis" else codec.scale_network
        own_rates = {RATE_OF_SHARES: list(shares.parameters())}
        if name != "synthesis":  # shares as they are for the network of the bundle come first
            learned(own_rates, scale_cost(codec, shares, refined), arguments.seconds / 8)
        learning = {rate: list(network.requires_grad_(True).parameters())}
        if name == "synthesis":
            steps[name] = learned(learning, synthesis_cost(codec), arguments.seconds)
        else:
            steps[name] = learned(learning | own_rates, scale_cost(codec, shares, of_own), arguments.seconds)
        arms[name] = codec.requires_grad_(False)
    held_out = [
        np.ascontiguousarray(
            one[: min(LARGEST, one.shape[0]) // 32 * 32, : min(LARGEST, one.shape[1]) // 32 * 32]
        )
        for one in load_pictures([arguments.held_out])[:HELD_OUT]
    ]
    as_it_is = Arm(with_scales(bundle, imported.codec, crops), imported.codec.synthesis)
    base = [measured(bundle, as_it_is, held_out, last) for last in AROUND]
    rows = []
    for name, codec in {"as it is": imported.codec, **arms}.items():
        of_scale = name not in ("as it is", "synthesis")
        integers = with_scales(bundle, codec, crops) if of_scale else as_it_is.integers
        found = measured(bundle, Arm(integers, codec.synthesis), held_out, LAST)
        cells = [f"{one:+.2f} %" for judge in range(len(JUDGES)) for one in bits_at_equal(base, found, judge)]
        rows.append([name, str(steps.get(name, "-")), *cells])
        sys.stderr.write(f"{rows[-1]}\n")
    print(
        f"# Training for layers\n\n`experiments/layers/train.py`, bundle {bundle.name}, "
        f"{arguments.seconds:g} s of one core an arm; {len(held_out)} photographs that were held out, last "
        f"layer at {LAST}: bits at equal quality at each cut.\n"
    )
    heads = ["learned", "steps", *(f"{judge}, {cut}" for judge in JUDGES for cut in range(1, LAYERS + 1))]
    print(markdown_table(heads, rows))


if __name__ == "__main__":
    main()
