"""The figures of the chapters on how the codec works, drawn from the codec itself.

python docs/build/chapter_figures.py [NAME...]     into docs/images/
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from figures import DEFAULT_MODE
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import softstair
from softstair.evaluate import METRICS, read_results
from softstair.learn.layers.stanh import STanH, gaussian_mass
from softstair.mode import Mode
from softstair.quantize.phases import PHASES, phase_map
from softstair.quantize.tables import RowRule, gaussian_tables
from softstair.quantize.trellis import indices, quantizers, search

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
INTEGER, FLOAT, CODED, INK = "#2a6f97", "#c8762b", "#5a5a5a", "#222222"
PHASE_COLOURS = ("#1d3557", "#457b9d", "#8fc0d6", "#dcecf2")


def main() -> None:
    figures: dict[str, Callable[[], Figure]] = {
        "path": path,
        "staircases": staircases,
        "phases": phases,
        "rate-positions": rate_positions,
        "quantizers": two_quantizers,
        "trellis": trellis,
        "gaps": gaps,
    }
    with matplotlib.rc_context({"svg.hashsalt": "softstair", "font.size": 9, "axes.titlesize": 10}):
        for name in sys.argv[1:] or figures:
            figures[name]().savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def path() -> Figure:
    """What a picture goes through, and which part of it is integers."""
    figure = _figure(8.6, 3.7)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 8.6), ylim=(0, 3.7))
    axes.axis("off")

    def box(x: float, y: float, text: str, colour: str, width: float = 1.15) -> None:
        axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - 0.24), width, 0.48, boxstyle="round,pad=0.03", fc=colour, ec="none"
            )
        )
        axes.text(x, y, text, color="white", ha="center", va="center", fontsize=8.5)

    def arrow(
        x: float, y: float, to_x: float, to_y: float, text: str = "", dx: float = 0, dy: float = 0.12
    ) -> None:
        axes.annotate("", (to_x, to_y), (x, y), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1})
        axes.text((x + to_x) / 2 + dx, (y + to_y) / 2 + dy, text, ha="center", va="center", fontsize=8.5)

    axes.text(0.1, 3.5, "encoder", fontsize=10, weight="bold", va="center")
    axes.text(0.1, 1.42, "decoder", fontsize=10, weight="bold", va="center")
    axes.axhline(1.72, color="#bbbbbb", lw=0.8, ls=(0, (4, 3)))

    box(1.75, 3.0, "analysis", FLOAT)
    box(3.65, 3.0, "hyper analysis", FLOAT)
    box(5.45, 3.0, "round", CODED, 0.8)
    box(3.65, 2.15, "quantize", CODED)
    box(7.55, 2.15, "rANS coder", INTEGER)
    arrow(0.35, 3.0, 1.1, 3.0, "pixels")
    arrow(2.35, 3.0, 3.05, 3.0, "y")
    arrow(4.25, 3.0, 5.02, 3.0, "z")
    arrow(5.88, 3.0, 7.55, 2.42, r"$\hat z$", 0.05, 0.16)
    arrow(2.0, 2.74, 3.05, 2.25, r"y $-\,\mu$, times the gain", -0.72, -0.1)
    arrow(4.25, 2.15, 6.95, 2.15, "symbols q, in four phases")

    arrow(7.55, 1.88, 7.55, 1.33, ".stair file", 0.42, 0.02)
    box(7.55, 1.05, "rANS decoder", INTEGER)
    box(5.45, 1.05, "scale network", INTEGER)
    arrow(6.95, 1.15, 6.08, 1.15, r"$\hat z$, earlier |q|", 0, 0.13)
    arrow(6.08, 0.95, 6.95, 0.95, "table rows", 0, -0.13)
    box(5.45, 0.3, "mean network", FLOAT)
    box(3.65, 0.3, r"$\hat y = \mu + q\,/\,$gain", FLOAT, 1.3)
    box(1.75, 0.3, "synthesis", FLOAT)
    arrow(7.3, 0.78, 6.08, 0.35, "all symbols", 0.62, -0.05)
    arrow(4.85, 0.3, 4.35, 0.3, r"$\mu$")
    arrow(2.97, 0.3, 2.37, 0.3, r"$\hat y$")
    arrow(1.12, 0.3, 0.35, 0.3, "pixels")
    legend = (
        ("integers: the same on every machine", INTEGER),
        ("floats: a grey level of difference at most", FLOAT),
        ("floats to integers: in the encoder alone", CODED),
    )
    for number, (text, colour) in enumerate(legend):
        axes.text(1.45, 1.4 - 0.26 * number, text, color=colour, fontsize=8.5, va="center")
    return figure


def staircases() -> Figure:
    """Soft staircases at growing beta, and what learning makes of one."""
    figure = _figure(8.2, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    u = torch.linspace(-3.4, 3.4, 2001)
    stanh = STanH(learned=4)
    for beta, colour in zip((1.5, 3.0, 8.0), ("#f4b183", "#d9812f", "#8c4a10"), strict=True):
        left.plot(u, _soft(stanh, u, beta), color=colour, lw=1.5, label=rf"$\beta$ = {beta:g}")
    _stairs(left, stanh, u)
    left.set_title("rounding, from soft to hard", loc="left")

    learned = _learned_staircase()
    right.plot(u, u, color="#bbbbbb", lw=0.8, ls="--")
    right.plot(u, _soft(learned, u, 8.0), color="#8c4a10", lw=1.5, label=r"$\beta$ = 8")
    _stairs(right, learned, u)
    for threshold in learned.thresholds().detach().flatten():
        if threshold < 3.4:
            right.axvline(float(threshold), color=INTEGER, lw=0.6, ls=":")
    right.set_title("after learning on Laplacian residuals", loc="left")
    left.set_ylabel("output, steps")
    for axes in (left, right):
        axes.set_xlabel("u = (y - mu) * gain, steps")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, loc="upper left")
    return figure


def _soft(stanh: STanH, u: torch.Tensor, beta: float) -> torch.Tensor:
    stanh.train()
    stanh.beta = beta
    value, _ = stanh(u.view(1, 1, -1), gaussian_mass(torch.ones(1)))
    return value.detach().flatten()


def _stairs(axes: Axes, stanh: STanH, u: torch.Tensor) -> None:
    hard = stanh.level(stanh.index(u.view(1, 1, -1))).detach().flatten()
    axes.plot(u, hard, color=INK, lw=1.2, label="hard")


def _learned_staircase() -> STanH:
    """A staircase trained for squared error plus rate, as ``derive`` would, on Laplacian samples."""
    torch.manual_seed(1)
    sigma = 0.9
    samples = torch.distributions.Laplace(0.0, sigma / math.sqrt(2)).sample((1, 1, 4000))
    stanh = STanH(learned=4)
    optimiser = torch.optim.Adam(stanh.parameters(), 0.02)
    for step in range(300):
        stanh.beta = 3.0 * (20 / 3) ** (step / 300)
        value, bits = stanh(samples, gaussian_mass(torch.full_like(samples, sigma)))
        loss = (samples - value).square().mean() + 0.1155 * bits.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return stanh


def phases() -> Figure:
    """Which quarter of its channels every position gets in each phase."""
    figure = _figure(8.2, 2.5)
    phase = phase_map(PHASES, 4, 6)  # a channel a group
    for index, axes in enumerate(figure.subplots(1, PHASES)):
        axes.set(xlim=(0, 6), ylim=(4, 0), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"after phase {index + 1}", loc="left")
        for row in range(4):
            for column in range(6):
                for group in range(PHASES):
                    top, left = row + (group // 2) / 2, column + (group % 2) / 2
                    known = phase[group, row, column]
                    colour = PHASE_COLOURS[known] if known <= index else "white"
                    axes.add_patch(matplotlib.patches.Rectangle((left, top), 0.5, 0.5, fc=colour, ec="none"))
        for line in range(7):
            axes.plot([line, line], [0, 4], color=INK, lw=0.8)
        for line in range(5):
            axes.plot([0, 6], [line, line], color=INK, lw=0.8)
        axes.spines[:].set_visible(False)
    return figure


def rate_positions() -> Figure:
    """What a rate position buys on Kodak, and the gains behind it."""
    figure = _figure(8.2, 3.4)
    left, right = figure.subplots(1, 2)
    results = read_results(ROOT / "results" / "photo-psnr_kodak.json")
    name = next(codec.name for codec in results.codecs if codec.mode == DEFAULT_MODE)
    means = [mean for mean in results.means if mean.codec == name]
    position = [float(mean.quality) for mean in means]
    left.plot(position, [mean.bpp for mean in means], "o-", color=INTEGER, ms=3.5)
    left.set(xlabel="rate position d", yscale="log")
    left.set_title(f"Kodak, mode {DEFAULT_MODE}", loc="left")
    left.set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    left.set_ylabel("bits a pixel", color=INTEGER)
    left.minorticks_off()
    twin = left.twinx()
    twin.plot(position, [mean.psnr for mean in means], "s-", color=FLOAT, ms=3.5)
    twin.set_ylabel(f"{METRICS['psnr'].label}, dB", color=FLOAT)
    left.grid(alpha=0.25)

    bundle = softstair.open_bundle()
    positions = np.arange(bundle.last_position + 1)
    gains = np.log2(np.stack([bundle.at(int(d), Mode.SCALAR).gain for d in positions]))
    order = np.argsort(gains.mean(0))
    for channel in order[np.linspace(0, len(order) - 1, 24).astype(int)]:
        right.plot(positions, gains[:, channel], color=INTEGER, lw=0.7, alpha=0.7)
    right.plot(positions, positions / 32, color=INK, lw=1.6, ls="--", label="d / 32")
    right.set(xlabel="rate position d", ylabel="log2 of the gain")
    right.set_title("gains of 24 channels, bundle photo", loc="left")
    right.legend(frameon=False)
    right.grid(alpha=0.25)
    return figure


def two_quantizers() -> Figure:
    """The members of the fine grid and the quantizers that they belong to."""
    figure = _figure(8.2, 1.5)
    axes = figure.add_subplot()
    axes.set(xlim=(-4.9, 4.6), ylim=(-0.6, 1.6), yticks=[])
    axes.set_xlabel("wider steps of the mode")
    axes.spines[["left", "right", "top"]].set_visible(False)
    for quantizer, colour in ((0, INTEGER), (1, FLOAT)):
        y = 1 - quantizer
        axes.axhline(y, color="#dddddd", lw=0.8, zorder=0)
        axes.text(-4.8, y, f"quantizer {quantizer}", color=colour, va="center", fontsize=9)
        for level in range(-3, 4):
            place = (2 * level - quantizer * np.sign(level)) / 2
            even = level % 2 == 0
            axes.scatter(place, y, s=150, color=colour if even else "white", edgecolors=colour, zorder=2)
            axes.text(
                place, y, f"{level}", ha="center", va="center", fontsize=7.5, color="white" if even else INK
            )
    return figure


def trellis() -> Figure:
    """Eight states, twelve latents, and the path that the search takes."""
    states, count = 8, 12
    rule = RowRule(base=-102, skip=0, rows=78)
    row = min(range(rule.rows), key=lambda row: abs(rule.sigma(row) - 1.5))
    residual = np.random.default_rng(5).normal(0, 1.5, count).astype(np.float32)
    levels = search(
        residual,
        np.full(count, row, np.int16),
        gaussian_tables(rule, states),
        states=states,
        rate_weight=0.04,
    )
    taken = _walk(states, levels)
    figure = _figure(8.2, 3.9)
    top, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.3))
    at = np.arange(count) + 0.5
    top.vlines(at, 0, residual, color="#bbbbbb", lw=1)
    top.plot(at, residual, "o", color=INK, ms=4, label="residual, steps")
    for quantizer, colour in enumerate((INTEGER, FLOAT)):
        mine = np.array([state & 1 == quantizer for state in taken[:-1]])
        place = indices(levels, states=states)[mine] / 2
        top.plot(at[mine], place, "_", color=colour, ms=13, mew=2.2, label=f"chosen, quantizer {quantizer}")
        for x, y, level in zip(at[mine], place, levels[mine], strict=True):
            top.annotate(f"{level}", (x + 0.27, y), va="center", fontsize=7.5, color=colour)
    top.legend(frameon=False, fontsize=7.5, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    top.set(ylim=(-2.9, 3.3))
    top.grid(alpha=0.25)
    for time in range(count):
        for state in range(states):
            for parity in (0, 1):
                to = _next_state(states, state, parity)
                on = (taken[time], taken[time + 1]) == (state, to) and levels[time] & 1 == parity
                colour = (INTEGER, FLOAT)[state & 1]
                style = (
                    {"lw": 2.4, "alpha": 1.0, "zorder": 2} if on else {"lw": 0.5, "alpha": 0.45, "zorder": 1}
                )
                axes.plot([time, time + 1], [state, to], color=colour, ls=("-", (0, (3, 2)))[parity], **style)
    axes.plot(range(count + 1), taken, "o", color=INK, ms=4, zorder=3)
    axes.set(ylabel="state", xlabel="latents of a lane, in coding order", yticks=range(states))
    axes.set(xlim=(-0.2, count + 0.2), ylim=(states - 0.6, -0.4))
    axes.spines[["right", "top"]].set_visible(False)
    return figure


_CHECKS = {4: (5, 2), 8: (11, 4), 16: (19, 4), 32: (37, 8)}  # as in docs/format/stream.md


def _next_state(states: int, state: int, parity: int) -> int:
    h0, h1 = _CHECKS[states]
    return state >> 1 ^ (h0 >> 1 if state & 1 else 0) ^ (h1 >> 1 if parity else 0)


def _walk(states: int, levels: np.ndarray) -> list[int]:
    """The state before every level, and the last; held against the core."""
    path = [0]
    for level in levels:
        path.append(_next_state(states, path[-1], int(level) & 1))
    assert [state & 1 for state in path[:-1]] == quantizers(levels, states=states).tolist()
    return path


def gaps() -> Figure:
    """Distance to the rate-distortion bound on Gaussian samples, from results/trellis.md."""
    figure = _figure(8.2, 3.2)
    axes = figure.add_subplot()
    rows = [
        [cell.strip() for cell in line.strip("| \n").split("|")]
        for line in (ROOT / "results" / "trellis.md").read_text().splitlines()
    ]
    start = next(number for number, row in enumerate(rows) if row[0].startswith("gap to R(D)"))
    rates = np.array(rows[start][1:], float)
    colours = ("#999999", "#555555", "#a8d0e6", "#6aa5c4", "#457b9d", "#1d3557")
    for (name, *cells), colour in zip(rows[start + 2 : start + 8], colours, strict=True):
        values = np.array([float("nan") if cell == "-" else float(cell) for cell in cells])
        axes.plot(rates, values, "o-", ms=3.5, color=colour, label=name)
    axes.set(xlabel="bits a sample", ylabel="gap to R(D), dB", ylim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
