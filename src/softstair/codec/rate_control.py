"""Finding the rate position that meets a target on real bytes or real pixels.

Analysis is done once; a probe costs the entropy networks and the coder, and for PSNR the
synthesis. Size is monotonic in the position but for ripples of a few bytes, so a bisection is
followed by a check of its neighbours, and what is returned never breaks the target.
"""

from __future__ import annotations

from collections.abc import Callable

from softstair.errors import TargetOutOfReach


def largest_within(size: Callable[[int], int], limit: int, last: int) -> int:
    """The finest position in [0, last] whose size does not exceed ``limit`` bytes.

    Raises:
        TargetOutOfReach: even position 0 is larger.
    """
    if size(last) <= limit:
        return last
    if size(0) > limit:
        raise TargetOutOfReach(
            f"The smallest file that this bundle can make of the picture has {size(0)} bytes, more than the "
            f"{limit} asked for; ask for more bytes or scale the picture down."
        )
    low, high = 0, last  # size(low) fits, size(high) does not
    while high - low > 1:
        middle = (low + high) // 2
        if size(middle) <= limit:
            low = middle
        else:
            high = middle
    return low


def smallest_reaching(quality: Callable[[int], float], floor: float, last: int) -> int:
    """The coarsest position in [0, last] whose quality (dB) is at least ``floor``.

    Raises:
        TargetOutOfReach: even the last position stays below.
    """
    if quality(0) >= floor:
        return 0
    if quality(last) < floor:
        raise TargetOutOfReach(
            f"The best that this bundle can make of the picture is {quality(last):.2f} dB, less than the "
            f"{floor:g} dB asked for; ask for less."
        )
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        if quality(middle) >= floor:
            high = middle
        else:
            low = middle
    return high
