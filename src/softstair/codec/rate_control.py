"""Finding the rate position that meets a target on real bytes or real pixels, and what lies between.

Analysis is done once; a probe costs the entropy networks and the coder, and for PSNR the
synthesis. The logarithm of the size and the PSNR are nearly linear in the position, so that
interpolation needs about four probes. What is returned was probed itself, and so was its
neighbour on the other side of the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from softstair.errors import TargetOutOfReach

# What a position usually adds, before two probes tell more.
_LOG_SIZE_SLOPE = math.log(2) / 48
_PSNR_SLOPE = 6.02 / 40  # dB
_NEAR = 0.995  # of a limit: near enough
_WEIGHT_RANGE, _WEIGHT_PROBES = 0.03, 6  # squared steps a bit: a position's worth of bytes
_INTERPOLATIONS = 6  # before plain bisection takes over


def largest_within(size: Callable[[int], int], limit: int, last: int) -> int:
    """The finest position in [0, last] whose size does not exceed ``limit`` bytes.

    Raises:
        TargetOutOfReach: even position 0 is larger.
    """

    def excess(position: int) -> float:
        return math.log(size(position) / (limit + 0.5)) if limit > 0 else math.inf

    first_beyond = _first_positive(excess, last, _LOG_SIZE_SLOPE)
    if first_beyond == 0:
        raise TargetOutOfReach(
            f"The smallest file that this bundle can make of the picture has {size(0)} bytes, more than the "
            f"{limit} asked for; ask for more bytes or scale the picture down."
        )
    return first_beyond - 1


def weight_within(size: Callable[[float], int], limit: int, found: int, start: float) -> float | None:
    """A rate weight that brings a position that is too large, if barely, to ``limit`` bytes or less.

    Args:
        size: bytes by rate weight; they fall as it grows.
        limit: bytes, at most.
        found: bytes of a file that keeps the limit already, to be surpassed.
        start: the weight that is too light.

    Returns:
        None if nothing between ``found`` and ``limit`` was found, or ``found`` is near enough.
    """
    best, too_light, too_heavy = None, start, start + _WEIGHT_RANGE
    for _ in range(_WEIGHT_PROBES):
        if found >= _NEAR * limit:
            break
        weight = (too_light + too_heavy) / 2
        if (taken := size(weight)) > limit:
            too_light = weight
        else:
            too_heavy = weight
            if taken > found:
                best, found = weight, taken
    return best


def smallest_reaching(quality: Callable[[int], float], floor: float, last: int) -> int:
    """The coarsest position in [0, last] whose quality (dB) is at least ``floor``.

    Raises:
        TargetOutOfReach: even the last position stays below.
    """

    def excess(position: int) -> float:
        reached = quality(position)
        return reached - floor if reached < floor else reached - floor + 1e-9

    first_reaching = _first_positive(excess, last, _PSNR_SLOPE)
    if first_reaching > last:
        raise TargetOutOfReach(
            f"The best that this bundle can make of the picture is {quality(last):.2f} dB, less than the "
            f"{floor:g} dB asked for; ask for less."
        )
    return first_reaching


def _first_positive(value: Callable[[int], float], last: int, slope: float) -> int:
    """The first position in [0, last] where a rising value is positive; last + 1 if nowhere.

    slope: of the value, guessed. The value may ripple; then it is one of several such places.
    """
    below, above = -1, last + 1  # not positive, positive; beyond the ends by definition
    value_below, value_above = -math.inf, math.inf
    guess = last // 2
    for probe in range(last + 1):
        if above - below <= 1:
            break
        position = min(max(guess, below + 1), above - 1)
        found = value(position)
        if found > 0:
            above, value_above = position, found
        else:
            below, value_below = position, found
        if probe >= _INTERPOLATIONS:
            guess = (below + above) // 2
        elif math.isfinite(value_below) and math.isfinite(value_above):
            guess = below + int((above - below) * value_below / (value_below - value_above))
        elif math.isfinite(found):
            guess = position - math.floor(found / slope)
        else:
            guess = 0 if found > 0 else last
    return above
