"""The pages of the documentation that show results/.

docs/conf.py writes them whenever the site is built. Every NAME.json is a data set: curves, delta
rates, and the tables of NAME.md. Every other NAME.md is a page as it stands, below
docs/images/NAME.svg where there is one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from figures import NAMES, RESULTS, delta, own_curve, published

from softstair.evaluate import (
    METRICS,
    Curve,
    Metric,
    Results,
    markdown_table,
    measured_metrics,
    published_beside,
    read_results,
)
from softstair.evaluate.curve_files import curves_of
from softstair.evaluate.plot import plot_curves

FIGURES = RESULTS.parent / "docs" / "images"
# Title and opening of data sets and of pages; others are called by their file's name.
DATA_SETS = {
    "kodak": ("Kodak", "The 24 photographs that every paper measures, 768x512."),
    "photos768": ("Photographs, 768 pixels", "Photographs of our own choice, about as large as Kodak's."),
    "large1200": (
        "Photographs, 1200 pixels",
        "Larger photographs, where every codec has more to predict from.",
    ),
    "large12mp": ("Photographs, 12 megapixels", "Photographs as cameras write them."),
}
PAGES = {
    "annealing": ("Staircases that harden", "Beside rounding and noise, end to end, by step."),
    "anchors-scratch": (
        "Anchors from nothing",
        "Three small networks of one rate each, and what is derived.",
    ),
    "anchors-long": (
        "Anchors from nothing, three times as long",
        "Small networks of one rate each, and what is derived.",
    ),
    "coder": ("Entropy coding", "What writing and reading symbols costs, by mode, in milliseconds."),
    **{
        f"compare_{group}": (
            f"One change at a time: {title}",
            "Runs of equal time, judged by held-out pictures.",
        )
        for group, title in (
            ("designs", "the design of photo-psnr"),
            ("transforms", "transforms"),
            ("entropy", "entropy model"),
            ("training", "training"),
        )
    },
    **{
        f"compare_{group}_seeds": (
            f"Two seeds: {title}",
            "Against the first row with the same seed: mean, and each.",
        )
        for group, title in (
            ("entropy", "entropy model"),
            ("training", "training"),
            ("top-rate", "the top rate"),
        )
    },
    "cores": ("Two cores on one run", "Seconds of a step by how they share it."),
    "grid": ("Grid", "How far cells of 16 pixels show, by what latents the synthesis is given."),
    "pictures": (
        "More pictures",
        "What photographs and graphics more do to photographs, screens and documents.",
    ),
    "precision": ("Float32 or bfloat16", "Seconds of a small pass, as runs of training measured them."),
    "smoothing": (
        "Smoothing",
        "What a filter that stops at edges saves, by judge, rate position and threshold.",
    ),
    "two_stage_scratch": ("Two stages from nothing", "After noise and after rounding from the beginning."),
    "integer_cost": ("The price of integers", "What it costs that tables are chosen in integers."),
    "large": ("Large pictures", "Time and memory from 1 to 100 megapixels, beside AVIF and JPEG XL."),
    "ladder_kodak": ("What buys what: Kodak", "Ways to choose and code symbols on one network, not tuned."),
    "ladder_large1200": (
        "What buys what: 1200 pixels",
        "Ways to choose and code symbols on one network, not tuned.",
    ),
    "mixtures": ("Mixtures", "Bits at equal quality by what was trained for, two seeds."),
    "perception": ("One stream, two decoders", "A synthesis for squared error beside one for the eye."),
    "robustness": ("Robustness", "Pictures that no photographer took, and fifty generations of copies."),
    "speed": ("Speed and memory", "Milliseconds by stage, networks loaded, and the peak of memory."),
    "training-runs": ("Runs of training", "What each took, and the bits that it ended with."),
    **{
        f"two_stage_{name}": (
            f"Two stages: {title}",
            "What finetuning on quantized latents buys, beside as many steps of something else.",
        )
        for name, title in (("kodak", "Kodak"), ("photos768", "768 pixels"), ("large1200", "1200 pixels"))
    },
    "training": ("What training bought", "Bits at equal PSNR by what the network had seen."),
    "two_stage_paper": ("Two stages as published", "After noise and after rounding in the first stage."),
    "weights": ("Weights in 8 bits", "What each part of a network loses by them."),
    "trellis": ("Trellises", "What trellises gain on synthetic latents, and how long the search takes."),
}


def write_pages(folder: Path) -> None:
    """A page a data set and a page a table, in place of what is in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(RESULTS.glob("*.json")):
        write_data_set(path, folder)
    for path in sorted(RESULTS.glob("*.md")):
        if not path.with_suffix(".json").exists():
            title, opening = PAGES.get(path.stem, (path.stem.replace("_", " ").capitalize(), ""))
            page = [f"# {title}", opening]
            if (FIGURES / f"{path.stem}.svg").exists():
                page.append(f"![{title}](../images/{path.stem}.svg)")
            page.append(_without_title(path.read_text()))
            (folder / path.name).write_text("\n\n".join(page))


def write_data_set(path: Path, folder: Path) -> None:
    results = read_results(path)
    title, opening = DATA_SETS.get(path.stem, (path.stem.capitalize(), f"The data set {path.stem}."))
    page = [f"# {title}", f"{opening} {results.pictures} pictures, bytes of whole files."]
    for metric in measured_metrics(results):
        name = f"{path.stem}-{metric.key}.svg"
        (folder / name).write_bytes(plot_curves(curves(results, metric), metric, "svg"))
        page.append(f"![Rate and {metric.label} on {title}]({name})")
    page += [
        "## Bits at equal quality",
        "Softstair's default mode against others: BD-rate by PCHIP over the range that both curves have; "
        "negative is fewer bits. How it is measured: [evaluation](../evaluation.md).",
        bits(results),
    ]
    if published_beside(own_curve(results, METRICS["psnr"]), METRICS["psnr"]):
        page += [
            "Against points that others published and we did not run; positive means that they need fewer:",
            published(results),
        ]
    report = path.with_suffix(".md")
    if report.exists():
        page += ["## All points", _without_title(report.read_text())]
    (folder / f"{path.stem}.md").write_text("\n\n".join(page))


def bits(results: Results) -> str:
    """Delta rates of the default mode against all that were measured beside it, in the README's order."""
    metrics = measured_metrics(results)
    order = {name: number for number, name in enumerate(NAMES)}
    peers = [codec.name for codec in results.codecs if codec.mode is None]
    peers.sort(key=lambda name: order.get(name, len(order)))
    rows = ([NAMES.get(peer, peer), *(delta(results, peer, metric) for metric in metrics)] for peer in peers)
    return markdown_table(["against", *(metric.label for metric in metrics)], rows)


def curves(results: Results, metric: Metric) -> list[Curve]:
    """Ours of the default mode, and all that were measured beside it."""
    own = own_curve(results, metric)
    return [own, *(curve for curve in curves_of(results, metric) if not curve.own)]


def _without_title(text: str) -> str:
    lines = text.strip().splitlines()
    return "\n".join(lines[1:] if lines and lines[0].startswith("# ") else lines) + "\n"
