"""Distortion of 8-bit RGB pictures, in float64: PSNR, MS-SSIM, SSIMULACRA 2."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import correlate1d
from ssimulacra2 import compute_ssimulacra2

from softstair.errors import UsageError

_Plane = npt.NDArray[np.float64]

PEAK = 255.0
_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # finest scale first
_TAPS, _SIGMA = 11, 1.5
_WINDOW = np.exp(-((np.arange(_TAPS) - _TAPS // 2) ** 2) / (2 * _SIGMA**2))
_WINDOW /= _WINDOW.sum()
_K1, _K2 = 0.01, 0.03
_SMALLEST = (_TAPS - 1) * 2 ** (len(_WEIGHTS) - 1) + 1  # pixels a side, for a window at the end


def mean_squared_error(reference: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Mean squared difference over all pixels and channels, in squared grey levels.

    Args:
        reference, other: uint8 (H, W, 3).

    Raises:
        UsageError: not uint8 (H, W, 3), or of different sizes.
    """
    check_pixels(reference, other)
    return float(np.square(reference.astype(np.float64) - other).mean())


def psnr(reference: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, peak 255, one MSE over R, G and B; inf if equal.

    Args:
        reference, other: uint8 (H, W, 3).

    Raises:
        UsageError: not uint8 (H, W, 3), or of different sizes.
    """
    return psnr_of(mean_squared_error(reference, other))


def psnr_of(error: float) -> float:
    """PSNR in dB of a mean squared error in squared grey levels; inf for none."""
    return float("inf") if error == 0 else float(10 * np.log10(PEAK**2 / error))


def ms_ssim(reference: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Multi-scale structural similarity, 0 to 1, the mean over R, G and B.

    Z. Wang, E. P. Simoncelli, A. C. Bovik: Multi-scale structural similarity for image quality
    assessment. Asilomar Conference on Signals, Systems and Computers, 2003. Five scales with the
    paper's weights; 11-tap Gaussian window of sigma 1.5, only where it fits; luminance at the
    coarsest scale alone; scales are halved by the mean of 2x2 pixels, an odd border repeated.
    A negative contrast-structure term counts as 0.

    Args:
        reference, other: uint8 (H, W, 3), at least 161 pixels a side.

    Raises:
        UsageError: not uint8 (H, W, 3), of different sizes, or too small for five scales.
    """
    check_pixels(reference, other)
    if min(reference.shape[:2]) < _SMALLEST:
        raise UsageError(
            f"MS-SSIM needs at least {_SMALLEST} pixels a side; the picture has "
            f"{reference.shape[1]}x{reference.shape[0]}."
        )
    return float(np.mean([_ms_ssim_of_plane(reference[..., c], other[..., c]) for c in range(3)]).clip(0, 1))


def ssimulacra2(reference: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """SSIMULACRA 2: 100 for equal pictures, about 90 for no visible loss, 50 for medium quality.

    By the package ssimulacra2, which reads files: it gets uncompressed ones in memory.

    Args:
        reference, other: uint8 (H, W, 3), sRGB.

    Raises:
        UsageError: not uint8 (H, W, 3), or of different sizes.
    """
    check_pixels(reference, other)
    return float(compute_ssimulacra2(_as_file(reference), _as_file(other)))


def _as_file(pixels: npt.NDArray[np.uint8]) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PPM")
    return buffer


def _ms_ssim_of_plane(one: npt.NDArray[np.uint8], two: npt.NDArray[np.uint8]) -> float:
    x, y = one.astype(np.float64), two.astype(np.float64)
    means = []
    for scale in range(len(_WEIGHTS)):
        if scale:
            x, y = _halve(x), _halve(y)
        luminance, contrast_structure = _similarity(x, y)
        means.append(contrast_structure.mean())
    means[-1] = (luminance * contrast_structure).mean()
    return float(np.prod(np.maximum(means, 0) ** _WEIGHTS))


def _similarity(x: _Plane, y: _Plane) -> tuple[_Plane, _Plane]:
    """Maps of luminance and of contrast times structure."""
    c1, c2 = (_K1 * PEAK) ** 2, (_K2 * PEAK) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    luminance = (2 * product + c1) / (squares + c1)
    covariance = _blur(x * y) - product
    variances = _blur(x * x + y * y) - squares
    return luminance, (2 * covariance + c2) / (variances + c2)


def _blur(plane: _Plane) -> _Plane:
    """Gaussian mean, cut to where the whole window lies inside, and transposed, as rows are fast."""
    half = _TAPS // 2
    across: _Plane = correlate1d(plane, _WINDOW, axis=1)[:, half:-half]
    both: _Plane = correlate1d(np.ascontiguousarray(across.T), _WINDOW, axis=1)[:, half:-half]
    return both


def _halve(plane: _Plane) -> _Plane:
    rows, columns = plane.shape
    even = np.pad(plane, ((0, rows % 2), (0, columns % 2)), mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def check_pixels(reference: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> None:
    """Refuse what is not two pictures of one size, uint8 (H, W, 3).

    Raises:
        UsageError: it is not.
    """
    for array in (reference, other):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
            raise UsageError(f"Metrics take uint8 pixels (H, W, 3), not {array.dtype} {array.shape}.")
    if reference.shape != other.shape:
        raise UsageError(
            f"Pictures of different shapes, {reference.shape} and {other.shape}, cannot be compared."
        )
