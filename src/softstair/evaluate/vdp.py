"""ColorVideoVDP of still pictures, by the package cvvdp and the torch that comes with it.

The package asks for torchvision, of which still pictures need one blur. A torchvision that does not
fit the installed build of torch, as any from PyPI beside torch's own build for processors alone,
cannot even be imported; so the blur is ours, and theirs is left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

DISPLAY = "standard_4k"
_STANDS_IN = ("torchvision", "torchvision.ops", "torchvision.transforms")


def color_video_vdp(reference: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Quality in JOD, 10 for equal pictures, on the package's standard display, by one thread.

    Args:
        reference, other: uint8 (H, W, 3), sRGB, of one size.
    """
    torch = import_module("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them wait for each other on a machine that is busy
    try:
        with torch.inference_mode():
            return float(_metric().predict(other, reference, dim_order="HWC")[0])
    finally:
        torch.set_num_threads(threads)


@cache
def _metric() -> Any:
    torch = import_module("torch")
    with _without_torchvision(torch):
        package = import_module("pycvvdp")
    return package.cvvdp(display_name=DISPLAY, device=torch.device("cpu"), quiet=True)


@contextmanager
def _without_torchvision(torch: Any) -> Iterator[None]:
    """Modules in place of torchvision's, and the path as it was afterwards."""
    modules = {name: ModuleType(name) for name in _STANDS_IN}
    vars(modules["torchvision.transforms"])["GaussianBlur"] = _blur_of(torch)
    vars(modules["torchvision.ops"])["MLP"] = torch.nn.Module
    before, path = {name: sys.modules.get(name) for name in _STANDS_IN}, list(sys.path)
    sys.modules.update(modules)
    try:
        yield
    finally:
        sys.path[:] = path  # the package adds its own folder
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _blur_of(torch: Any) -> type:
    """The class GaussianBlur as torchvision defines it: separable, reflected at borders."""

    class GaussianBlur:
        def __init__(self, kernel_size: int, sigma: float) -> None:
            at = torch.linspace(-(kernel_size - 1) / 2, (kernel_size - 1) / 2, kernel_size)
            taps = torch.exp(-0.5 * (at / sigma) ** 2)
            self._taps = taps / taps.sum()

        def forward(self, planes: Any) -> Any:
            """Blur planes (..., H, W), float."""
            taps, half = self._taps.to(planes), len(self._taps) // 2
            flat = planes.reshape(-1, 1, *planes.shape[-2:])
            wide = torch.nn.functional.pad(flat, (half, half, half, half), mode="reflect")
            across = torch.nn.functional.conv2d(wide, taps.view(1, 1, 1, -1))
            return torch.nn.functional.conv2d(across, taps.view(1, 1, -1, 1)).view(planes.shape)

    return GaussianBlur
