"""What is compared: the networks of the recipes with one thing changed each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from softstair.learn import networks
from softstair.learn.codec import Codec, Passage, Walk
from softstair.learn.layers.blocks import SLOPE, convolution
from softstair.learn.layers.densities import SIGMA_MAX, SIGMA_MIN, gaussian_bits
from softstair.learn.layers.fixed import FixedConvolution
from softstair.learn.layers.rates import hat_weights
from softstair.learn.layers.rounding import straight_through_round
from softstair.learn.noise import Noise
from softstair.learn.optimiser import Optimiser
from softstair.learn.recipe import Batches, Recipe, read_recipe
from softstair.learn.shape import Shape
from softstair.learn.stages.pretrain import STANDARD, Design
from softstair.learn.start import calibrate
from softstair.quantize.phases import PHASES

RECIPE = Path(__file__).with_name("photo-s.toml")
LONG_RUN = Path(__file__).parents[2] / "recipes" / "photo.toml"  # of the group designs


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    shape, rates, data, pretrain: settings of the recipe that differ. design: of ``pretrain``. passes: of the
    mean network in a decoder.
    """

    shape: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    pretrain: dict[str, Any] = field(default_factory=dict)
    design: Design = STANDARD
    passes: int = PHASES


class Unconditioned(networks.Synthesis):
    """A synthesis that does not know the rate."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.rate.table.requires_grad_(False)


class ConstantMeans(networks.MeanNetwork):
    """A mean a channel, and no network."""

    def forward(self, known: Tensor, base: Tensor, deviation: Tensor, phase: Tensor) -> Tensor:
        bias = self.head.layer.bias[None, :, None, None].expand_as(known)
        return bias * deviation + 0 * phase.sum()  # a graph keeps its inputs

    def base(self, z_hat: Tensor, hat: Tensor) -> Tensor:
        return z_hat


class HyperMeans(networks.MeanNetwork):
    """Means of z^ alone, the same in all phases and so computed in the first."""

    def forward(self, known: Tensor, base: Tensor, deviation: Tensor, phase: Tensor) -> Tensor:
        if phase[0, 0] > 0:
            self.kept = super().forward(torch.zeros_like(known), base, deviation, phase)
        return self.kept


class TwoLayerMeans(networks.MeanNetwork):
    """Two 3x3 layers a phase, not one."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        again = (convolution(shape.context, shape.context), nn.LeakyReLU(SLOPE))
        self.body = nn.Sequential(*self.body, *again)


class NonLocalMeans(networks.MeanNetwork):
    """What z^ is on average over the tile, as a bias: a context of the whole picture."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.whole = convolution(shape.hyper_latents, shape.hyper, 1)
        nn.init.zeros_(self.whole.weight)

    def base(self, z_hat: Tensor, hat: Tensor) -> Tensor:
        whole = self.whole(z_hat.mean((2, 3), keepdim=True))
        return self.features(self.hyper(z_hat) + whole + self.rate(hat))


class AttentiveMeans(networks.MeanNetwork):
    """Attention over 5x5 places, four heads, in place of the 3x3 layer of a phase."""

    heads, around = 4, 2

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        width, side = shape.context, 2 * self.around + 1
        self.body = nn.Sequential(nn.LeakyReLU(SLOPE))
        self.asked = convolution(width, 3 * width, 1)
        self.place = nn.Parameter(torch.zeros(1, self.heads, 1, side**2, 1, 1))
        self.after = nn.Sequential(convolution(width, width, 1), nn.LeakyReLU(SLOPE))

    def forward(self, known: Tensor, base: Tensor, deviation: Tensor, phase: Tensor) -> Tensor:
        bias = (phase.to(self.phase.dtype) @ self.phase)[:, :, None, None]
        x = self.body(self.known(known / deviation) + base + bias)
        query, key, value = self.asked(x).chunk(3, 1)
        own, depth = self._split(query), query.shape[1] // self.heads
        score = (own.unsqueeze(3) * self._near(key)).sum(2, keepdim=True) / depth**0.5 + self.place
        mixed = (score.softmax(3) * self._near(value)).sum(3).flatten(1, 2)
        return self.head(x + self.after(mixed)) * deviation

    def _split(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, heads, C / heads, H, W)."""
        return x.unflatten(1, (self.heads, -1))

    def _near(self, x: Tensor) -> Tensor:
        """Every place's neighbours, (B, heads, C / heads, places, H, W)."""
        padded = nn.functional.pad(x, (self.around,) * 4)
        height, width = x.shape[2:]
        steps = range(2 * self.around + 1)
        return torch.stack(
            [self._split(padded[:, :, i : i + height, j : j + width]) for i in steps for j in steps], 3
        )


class TwoScaleMeans(networks.MeanNetwork):
    """z^ as it is and at half its size, where a place sees four times as far."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        entry = convolution(shape.hyper_latents, shape.hyper)
        self.far = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), entry, nn.LeakyReLU(SLOPE))
        self.back = convolution(shape.hyper, shape.hyper, 1)
        nn.init.zeros_(self.back.weight)

    def base(self, z_hat: Tensor, hat: Tensor) -> Tensor:
        far = self.back(self.far(z_hat)).repeat_interleave(2, 2).repeat_interleave(2, 3)
        far = far[:, :, : z_hat.shape[2], : z_hat.shape[3]]
        return self.features(self.hyper(z_hat) + far + self.rate(hat))


class Compacted(Codec):
    """A penalty on energy that is spread: the log of the arithmetic over the geometric mean of channels'.

    The more of it, the better; a hundredth of a bit a latent for a unit.
    """

    weight = 0.01

    def forward(self, picture: Tensor, position: Tensor, noise: Noise | None) -> Passage:
        passage = super().forward(picture, position, noise)
        if noise is None:
            return passage
        y = self.analysis(picture)
        energy = y.square().mean((2, 3)) + 1e-6
        compaction = energy.mean(1).log() - energy.log().mean(1)
        rewarded = passage.y_bits - self.weight * y[0].numel() * compaction
        return Passage(passage.picture, rewarded, passage.z_bits)


class Lifting(nn.Module):
    """Either half of the channels moves by what the other holds, so that ``back`` undoes it exactly."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.first, self.second = (self._made_of(channels // 2, inner) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        a = a + self.first(b)
        return torch.cat([a, b + self.second(a)], 1)

    def back(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        b = b - self.second(a)
        return torch.cat([a - self.first(b), b], 1)

    @staticmethod
    def _made_of(half: int, inner: int) -> nn.Sequential:
        """What a residual block makes, beginning as small as one does that starts from components."""
        first, second = convolution(half, inner), convolution(inner, half)
        nn.init.kaiming_normal_(first.weight, SLOPE)
        for zero in (first.bias, second.bias):
            nn.init.zeros_(zero)
        with torch.no_grad():
            second.weight.mul_(0.3 * 0.05)
        return nn.Sequential(first, nn.LeakyReLU(SLOPE), second)


class Back(nn.Module):
    """A lifting block, backwards."""

    def __init__(self, lifting: Lifting) -> None:
        super().__init__()
        self.lifting = lifting

    def forward(self, x: Tensor) -> Tensor:
        return self.lifting.back(x)


class Lifted(Codec):
    """Lifting blocks for residual ones; those of the synthesis run backwards, with weights of their own."""

    shared = False

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        widths = shape.stem, shape.middle, shape.deep
        names = "stem_blocks", "middle_blocks", "deep_blocks"
        for name, width, inner, count in zip(names, widths, shape.synthesis_inner, shape.blocks, strict=True):
            forwards = [Lifting(width, inner) for _ in range(count)]
            behind = forwards if self.shared else [Lifting(width, inner) for _ in range(count)]
            setattr(self.analysis, name, nn.Sequential(*forwards))
            setattr(self.synthesis, name, nn.Sequential(*map(Back, reversed(behind))))


class SharedLifted(Lifted):
    """The same weights forwards in the analysis and backwards in the synthesis, as in A-INN."""

    shared = True


class HyperScales(networks.ScaleNetwork):
    """Scales of z^ alone."""

    def correction(self, entered: Tensor, magnitude: Tensor, phase: int) -> Tensor:
        return torch.zeros_like(magnitude)


class NearScales(networks.ScaleNetwork):
    """3x3 positions of earlier symbols, not 5x5."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.neighbours = FixedConvolution(shape.latents, shape.latents, 3, groups=shape.latents)


class AdamAlone(Optimiser):
    """AdamW for everything."""

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float, dtype: torch.dtype) -> None:
        groups = [{"params": list(model.parameters()), "lr": adam_rate}]
        self.rate, self.adam = adam_rate, torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, factor: float) -> None:
        self.adam.param_groups[0]["lr"] = self.rate * factor
        self.adam.step()

    def state(self) -> dict[str, Any]:
        return self.adam.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(state)


def with_parts(**made_of: Any) -> Design:
    """A codec some of whose parts are others."""
    return Design(codec=type("Codec", (Codec,), made_of))


class Priced(Codec):
    """Prices the latents of an analysis that stays; errors of latents count as bits, not those of pictures.

    It is to be trained with a balance of 0: the weights of rates do not matter.
    """

    error_weight = 6.0  # bits that a squared step is worth: slope of rate and distortion at fine steps

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        for part in (self.analysis, self.synthesis, self.gains):
            part.requires_grad_(False)

    def forward(self, picture: Tensor, position: Tensor, noise: Noise | None) -> Passage:
        assert noise is not None
        hat = hat_weights(position, self.shape.rate_points)
        octaves = self.gains.log2(position, hat)
        gain = torch.exp2(octaves)
        with torch.no_grad():
            y = self.analysis(picture)
        z = self.hyper_analysis(y, self.deviation, gain, hat)
        z_bits = self.z_density.bits(z + noise.z, hat)
        walk = self.quantize(y, straight_through_round(z), octaves, hat)
        sigma = torch.exp2(walk.log_scale).clamp(SIGMA_MIN, SIGMA_MAX)
        y_bits = gaussian_bits((y - walk.mean) * gain + noise.y, sigma)
        error = ((walk.decoded - y) * gain).square()
        priced = y_bits.sum((1, 2, 3)) + self.error_weight * error.sum((1, 2, 3))
        return Passage(picture, priced, z_bits.sum((1, 2, 3)))


class BoundedResidual(Priced):
    """After all phases y^ moves by at most half a step, as a fifth pass of the mean network's kind says."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.mover = networks.MeanNetwork(shape)

    def quantize(self, y: Tensor, z_hat: Tensor, octaves: Tensor, hat: Tensor) -> Walk:
        decoded, mean, log_scale = super().quantize(y, z_hat, octaves, hat)
        base = self.mover.base(z_hat, hat)
        first = torch.eye(PHASES, device=y.device)[:1]
        moved = torch.tanh(self.mover(decoded.detach(), base, self.deviation, first) / self.deviation)
        return Walk(decoded + 0.5 * torch.exp2(-octaves) * moved, mean, log_scale)


def random_start(codec: Codec, pictures: Tensor, base: float) -> None:
    """Weights as torch draws them; only the entropy networks' constants are measured."""
    calibrate(codec, pictures)


# Widths are such that a decoder takes about as many milliseconds as that of photo-s.
TRANSFORMS = {
    "dense": Variant(),
    "more at 1/8": Variant({"synthesis_inner": (8, 64, 80)}),
    "more at 1/4": Variant({"synthesis_inner": (32, 32, 64)}),
    "light encoder": Variant({"analysis_inner": (16, 48, 96)}),
    "heavy encoder": Variant({"analysis_inner": (32, 96, 192)}),
    "unconditioned": Variant(design=with_parts(synthesis_of=Unconditioned)),
    "gated decoder": Variant({"synthesis_inner": (28, 80, 208), "gated": True}),
    "64 of detail": Variant({"latents": 320, "detail": 64}),
}


def _pricing(**made_of: Any) -> Design:
    return Design(codec=type("Priced", (Priced,), made_of))


ENTROPY = {
    "four phases, 5x5": Variant(design=_pricing()),
    "a mean a channel": Variant(design=_pricing(mean_network_of=ConstantMeans), passes=0),
    "means of z alone": Variant(design=_pricing(mean_network_of=HyperMeans), passes=1),
    "two 3x3 layers a phase": Variant(design=_pricing(mean_network_of=TwoLayerMeans)),
    "bounded residual": Variant(design=Design(codec=BoundedResidual), passes=5),
    "means of the whole tile": Variant(design=_pricing(mean_network_of=NonLocalMeans)),
    "local attention": Variant(design=_pricing(mean_network_of=AttentiveMeans)),
    "z at two scales": Variant(design=_pricing(mean_network_of=TwoScaleMeans)),
    "scales of z alone": Variant(design=_pricing(scale_network_of=HyperScales)),
    "3x3 symbols": Variant(design=_pricing(scale_network_of=NearScales)),
    "scales, width 32": Variant({"scale": 32}, design=_pricing()),
    "scales, width 128": Variant({"scale": 128}, design=_pricing()),
}

TRAINING = {
    "as in the recipe": Variant(),
    "AdamW alone": Variant(design=Design(optimiser=AdamAlone)),
    "8 crops": Variant(pretrain={"batches": [Batches(0, 8, 128)]}),
    "48 crops": Variant(pretrain={"batches": [Batches(0, 48, 128)]}),
    "4 crops of 256": Variant(pretrain={"batches": [Batches(0, 4, 256)]}),
    "half the rates": Variant(pretrain={"muon_rate": 0.75e-3, "adam_rate": 0.6e-3}),
    "twice the rates": Variant(pretrain={"muon_rate": 3e-3, "adam_rate": 2.4e-3}),
    "energy compaction": Variant(design=Design(codec=Compacted)),
    "random start": Variant(design=Design(start=random_start)),
    "balance 0.3": Variant(rates={"balance": 0.3}),
    "balance 0.6": Variant(rates={"balance": 0.6}),
    "a fifth saturated": Variant(data={"saturated": 0.2}),
}

# At the top rate alone. Both transforms have the inner widths of the synthesis: a shared block is in both.
_EIGHT = {"batches": [Batches(0, 8, 128)]}
TOP_RATE = {
    "residual blocks": Variant(pretrain=_EIGHT),
    "lifting": Variant(pretrain=_EIGHT, design=Design(codec=Lifted)),
    "lifting, shared": Variant(pretrain=_EIGHT, design=Design(codec=SharedLifted)),
}

# Widths of photo.toml, and as many milliseconds of both transforms spent elsewhere.
DESIGNS = {
    "photo": Variant(),
    "three blocks at 1/8": Variant(
        {"blocks": (1, 3, 1), "analysis_inner": (48, 88, 256), "synthesis_inner": (40, 104, 384)}
    ),
    "two blocks at 1/4": Variant(
        {"blocks": (2, 2, 1), "analysis_inner": (24, 128, 256), "synthesis_inner": (24, 136, 384)}
    ),
    "two blocks at 1/16": Variant(
        {"blocks": (1, 2, 2), "analysis_inner": (48, 128, 128), "synthesis_inner": (40, 160, 200)}
    ),
}

GROUPS = {
    "designs": DESIGNS,
    "transforms": TRANSFORMS,
    "entropy": ENTROPY,
    "training": TRAINING,
    "top rate": TOP_RATE,
}
BATCH = Batches(0, 16, 128)
# What transforms and training begin with: photo-s as it was when the first rows were taken.
FIRST = {
    "analysis_inner": (24, 64, 128),
    "synthesis_inner": (16, 48, 96),
    "gated": False,
    "latents": 256,
    "detail": 0,
}
ANCHOR = 160  # of the group top rate
AT_TOP = {"analysis_inner": FIRST["synthesis_inner"], "latents": 320, "detail": 64}


def recipe_of(group: str, name: str, steps: int, seed: int, entropy: Shape) -> Recipe:
    """The recipe of a variant: so many steps, the second half with falling rates on integer grids.

    entropy: the shape of the network whose latents are priced.
    """
    variant = GROUPS[group][name]
    recipe = read_recipe(LONG_RUN if group == "designs" else RECIPE)
    settings: dict[str, Any] = {
        "batches": [BATCH],
        "steps": steps,
        "decay_from": steps // 2,
        "fixed_from": steps // 2,
        "muon_rate": 1.5e-3,
        "adam_rate": 1.2e-3,
        "warm_up": 100,
        "validate_every": steps + 1,  # the end is judged after the run
        "checkpoint_every": 250,
        "forks_at": None,
    }
    own = {} if group == "designs" else FIRST | (AT_TOP if group == "top rate" else {})
    first = entropy if group == "entropy" else msgspec.structs.replace(recipe.shape, **own)
    pretrain = msgspec.structs.replace(recipe.pretrain, **settings | variant.pretrain)
    shape = msgspec.structs.replace(first, **variant.shape)
    of_group: dict[str, dict[str, Any]] = {"entropy": {"balance": 0.0}, "top rate": {"anchor": ANCHOR}}
    rates = msgspec.structs.replace(recipe.rates, **of_group.get(group, {}) | variant.rates)
    data = msgspec.structs.replace(recipe.data, **{"saturated": 0.0} | variant.data)
    recipe = msgspec.structs.replace(
        recipe, shape=shape, pretrain=pretrain, rates=rates, data=data, seed=seed, endings=()
    )
    # What is faster is measured on a busy machine otherwise, and differs from run to run.
    return (
        msgspec.structs.replace(recipe, precision="bfloat16") if group in ("designs", "top rate") else recipe
    )
