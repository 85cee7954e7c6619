"""Draw the rooms of the package from its imports: docs/images/architecture.svg.

    python docs/build/architecture.py docs/images/architecture.svg

A room stands above all that it imports, at any remove. Imports that others imply are not drawn: the
picture is the least that says who may use whom.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import grimp
import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

INK, LINE, KIT, PRODUCT = "#1f2937", "#94a3b8", "#fef3c7", "#e0f2fe"
OUTSIDE = {"__main__", "models", "_core"}  # a start, data, the extension module
GROUND = "errors, mode, …"  # modules that import none of the others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    draw(reduced(rooms()), arguments.output)


def rooms() -> dict[str, set[str]]:
    """Every room and those that it imports; what imports none of the others is one room, the ground."""
    graph = grimp.build_graph("softstair")
    names = {child.removeprefix("softstair.") for child in graph.find_children("softstair")} - OUTSIDE
    uses: dict[str, set[str]] = {name: set() for name in names}
    for name in names:
        room = f"softstair.{name}"
        for module in {room, *graph.find_descendants(room)}:
            for imported in graph.find_modules_directly_imported_by(module):
                other = imported.split(".")[1] if "." in imported else name
                if other in names and other != name:
                    uses[name].add(other)
    ground = {name for name, used in uses.items() if not used}
    return {
        GROUND: set(),
        **{name: {GROUND if one in ground else one for one in used} for name, used in uses.items() if used},
    }


def reduced(uses: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without what follows from the rest."""

    def reach(name: str) -> set[str]:
        return uses[name].union(*map(reach, uses[name])) if uses[name] else set()

    return {
        name: {one for one in used if not any(one in reach(other) for other in used - {one})}
        for name, used in uses.items()
    }


def storeys(uses: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by storey, each as low as it can be."""
    level: dict[str, int] = {}

    def place(name: str) -> int:
        if name not in level:
            level[name] = 1 + max(map(place, uses[name]), default=-1)
        return level[name]

    for name in uses:
        place(name)
    return [sorted(n for n in uses if level[n] == storey) for storey in range(max(level.values()) + 1)]


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def draw(uses: dict[str, set[str]], path: Path) -> None:
    floors = storeys(uses)
    figure = Figure(figsize=(8.5, 0.85 * len(floors)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    places: dict[str, tuple[float, float]] = {}
    for height, names in enumerate(floors):
        above = {n: [place for place, used in enumerate(uses.values()) if n in used] for n in names}
        names.sort(key=lambda n: (_mean([places[one][0] for one in uses[n]]), above[n], n))
        for number, name in enumerate(names):
            places[name] = ((number + 0.5) / len(names) * 10, height)
    for name, used in uses.items():
        for other in used:
            (x, y), (to_x, to_y) = places[name], places[other]
            axes.plot([x, to_x], [y - 0.22, to_y + 0.22], color=LINE, linewidth=0.9, zorder=1)
    for name, (x, y) in places.items():
        colour = KIT if name == "learn" else PRODUCT
        box = FancyBboxPatch(
            (x - 0.62, y - 0.2), 1.24, 0.4, boxstyle="round,pad=0.02", fc=colour, ec=INK, lw=0.8, zorder=2
        )
        axes.add_patch(box)
        axes.text(x, y, name, ha="center", va="center", fontsize=8.5, color=INK, zorder=3)
    axes.set_xlim(0, 10)
    axes.set_ylim(-0.4, len(floors) - 0.6)
    mpl.rcParams["svg.hashsalt"] = "softstair"
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
