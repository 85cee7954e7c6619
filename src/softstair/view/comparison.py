"""The page as one file: a photograph by Softstair and by others at the same size."""

from __future__ import annotations

from collections.abc import Callable

from softstair.bundle import Bundle
from softstair.codec import Rate
from softstair.errors import TargetOutOfReach

from .display import as_data_url
from .facts import facts_of_photo
from .page import Shown, Still, page_of
from .photograph import Photograph
from .sources import check_bytes
from .views import describe

Progress = Callable[[int, int], None]  # views done, views in all


def compare(data: bytes, name: str, rate: Rate, bundle: Bundle, threads: int, progress: Progress) -> str:
    """An HTML page that needs nothing else, not even a network.

    Args:
        data: of a photograph. name: its file's.
        rate: of Softstair, whose size the others are fitted to; a size is that of the pixels
            alone, without metadata and transparency.

    Raises:
        SoftstairError: the photograph cannot be read, is too large, or the rate cannot be met.
    """
    check_bytes(len(data), name)
    photograph = Photograph(data, name, bundle, threads)
    position = photograph.position_for(rate)
    makers = photograph.makers()
    views: list[Shown] = []
    for codec, (_, make) in makers.items():
        progress(len(views), len(makers))
        try:
            view = make(position, lambda: None)
        except TargetOutOfReach as error:
            views.append(Shown(codec, problem=str(error)))
        else:
            views.append(Shown(codec, view.figures, as_data_url(view.picture)))
    facts = facts_of_photo(photograph.picture, data)
    description = describe(name, photograph.picture, facts, makers)
    return page_of(Still(description, position, bundle.last_position, tuple(views))).text
