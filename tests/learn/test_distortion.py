"""The distortion for the eye: its parts beside the packages that they follow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the extra learn is not installed")

from softstair.errors import UsageError  # noqa: E402
from softstair.evaluate import measure_grid  # noqa: E402
from softstair.learn.distortion import distortion, lattice, similarity, ssimulacra2  # noqa: E402
from softstair.learn.recipe import read_recipe  # noqa: E402

from ..tiny import photograph, write_recipe  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "casa-mila.jpg"  # 576x384: six scales divide it


def unit(pixels):
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255


def through_jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


@pytest.mark.parametrize("quality", [15, 40, 80, 95])
def test_the_score_is_that_of_the_package_ssimulacra2(quality, tmp_path):
    """But for windows at the border, and for Gaussians where it has a recursive filter."""
    package = pytest.importorskip("ssimulacra2", reason="the extra eval is not installed")
    pixels = np.array(Image.open(EXAMPLE).convert("RGB"))
    decoded = through_jpeg(pixels, quality)
    for name, one in (("original", pixels), ("decoded", decoded)):
        Image.fromarray(one).save(tmp_path / f"{name}.png")
    expected = package.compute_ssimulacra2(str(tmp_path / "original.png"), str(tmp_path / "decoded.png"))
    found = ssimulacra2.score(unit(decoded), unit(pixels)).item()
    assert found == pytest.approx(expected, abs=3.5)


@pytest.mark.parametrize("quality", [15, 80])
def test_ms_ssim_is_that_of_the_package_but_for_the_borders(quality):
    from pytorch_msssim import ms_ssim

    pixels = photograph(384, 384)
    decoded, picture = unit(through_jpeg(pixels, quality)), unit(pixels)
    expected = 1 - ms_ssim(decoded, picture, data_range=1.0).item()
    found = (1 - similarity.ms_ssim(decoded, picture)).mean().item()
    assert found == pytest.approx(expected, rel=0.1)


def test_its_parts_are_mixed_by_their_shares():
    pixels = photograph(128, 128)
    decoded, picture = unit(through_jpeg(pixels, 30)), unit(pixels)
    parts = [distortion("eye", decoded, picture, tuple(row)).item() for row in np.eye(3).tolist()]
    assert parts[2] == pytest.approx(distortion("mse", decoded, picture).item(), rel=1e-5)
    mixed = distortion("eye", decoded, picture, (0.5, 0.3, 0.2)).item()
    assert mixed == pytest.approx(np.dot(parts, (0.5, 0.3, 0.2)), rel=1e-5)


@pytest.mark.parametrize("of", ["black", "equal", "beyond white"])
def test_gradients_are_finite_where_roots_are_steep(of):
    picture = torch.zeros(1, 3, 96, 96) if of == "black" else unit(photograph(96, 96))
    start = {"black": picture, "equal": picture, "beyond white": picture + 2}[of].clone().requires_grad_()
    distortion("eye", start, picture).sum().backward()
    assert torch.isfinite(start.grad).all()
    if of == "beyond white":
        assert (start.grad > 0).all()  # squared error pulls back what the other parts do not see


def test_worse_pictures_cost_more():
    pixels = photograph(192, 192)
    costs = [distortion("eye", unit(through_jpeg(pixels, q)), unit(pixels)).item() for q in (10, 30, 60, 90)]
    assert costs == sorted(costs, reverse=True)


def test_a_mixture_without_squared_error_is_refused(tmp_path):
    path = write_recipe(tmp_path / "tiny.toml")
    path.write_text(path.read_text() + '\n[rates]\ndistortion = "eye"\nmixture = [0.5, 0.5, 0.0]\n')
    with pytest.raises(UsageError, match="squared error"):
        read_recipe(path)


def test_steps_across_lines_are_counted_where_grid_sees_them():
    """A step of 2 grey levels on the lattice, and one beside it, on a slope that ends in noise."""
    pixels = np.repeat(np.linspace(60, 90, 96).round().astype(np.uint8)[None, :, None], 96, 0).repeat(3, 2)
    pixels[48:] = np.random.default_rng(1).integers(0, 250, (48, 96, 3))
    for start in (32, 33):
        decoded = pixels.copy()
        decoded[:, start:] += 2
        found = lattice.steps_across(unit(decoded), unit(pixels)).item()
        places = 2 * 5 * 96  # of five lines each way; smooth are the upper half, and there two level lines
        assert measure_grid(pixels, pixels, 16).smooth == (5 * 48 + 2 * 96) / places
        assert found == (pytest.approx((2 / 255) ** 2 * 48 / places, rel=1e-4) if start == 32 else 0)


def test_errors_across_lines_are_added_to_the_mixture():
    pixels = np.full((96, 96, 3), 100, np.uint8)
    stepped = pixels.copy()
    stepped[:, 48:] += 3
    plain, more = (distortion("eye", unit(stepped), unit(pixels), across=a).item() for a in (0.0, 10.0))
    assert more - plain == pytest.approx(10 * 9 / (2 * 5), rel=1e-4)
