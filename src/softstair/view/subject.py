"""One picture of the page: a photograph, a .stair file, or a photograph and what became of it."""

from __future__ import annotations

from time import perf_counter

from softstair.bundle import Bundle
from softstair.errors import UsageError

from .facts import Facts, facts_of_photo, facts_of_stair
from .photograph import Photograph
from .sources import Files, open_stair
from .views import FILE, Check, Choice, Figures, Makers, View, describe


class Subject:
    """Files, read, checked and decoded, and their views.

    Args:
        bundle: that codes the photograph.
        threads: of Softstair's networks; peers have one.

    Raises:
        SoftstairError: a file cannot be read, is too large, or the two differ in size.
    """

    def __init__(self, files: Files, bundle: Bundle, threads: int) -> None:
        self._name, self._last_position = files.name, bundle.last_position
        facts: Facts = ()
        self._makers: Makers = {}
        photograph = None
        if files.photo is not None:
            photograph = Photograph(files.photo, files.name, bundle, threads)
            facts += facts_of_photo(photograph.picture, files.photo)
            self._makers |= photograph.makers()
            seen = photograph.picture
        if files.stair is not None:
            view = _open_stair(files, photograph, bundle, threads)
            facts += facts_of_stair(files.stair, view.picture)
            label = files.name if photograph is None else "The .stair file"
            self._makers[FILE] = Choice(FILE, label), lambda _position, _check: view
            seen = view.picture
        self.description = describe(files.name, seen, facts, self._makers)

    def view(self, codec: str, position: int, check: Check = lambda: None) -> View:
        """The picture through a codec.

        Args:
            codec: of one of the choices.
            position: rate position of Softstair, whose size peers are fitted to.
            check: called between steps.

        Raises:
            UsageError: no such choice or position.
            TargetOutOfReach: the peer has no file that is as small.
        """
        if not 0 <= position <= self._last_position:
            raise UsageError(f"The rate position must be from 0 to {self._last_position}, not {position}.")
        if codec not in self._makers:
            raise UsageError(f"{self._name} cannot be shown as {codec[:40]}.")
        return self._makers[codec][1](position, check)


def _open_stair(files: Files, photograph: Photograph | None, bundle: Bundle, threads: int) -> View:
    data, name = files.stair or b"", files.name if photograph is None else f"The .stair file of {files.name}"
    start = perf_counter()
    picture = open_stair(data, name, bundle, threads)
    milliseconds = 1e3 * (perf_counter() - start)
    psnr = None
    if photograph is not None:
        if picture.pixels.shape[:2] != photograph.picture.pixels.shape[:2]:
            raise UsageError(f"{name} has another size; look at the pictures one at a time.")
        psnr = photograph.psnr(picture.rgb)
    height, width = picture.pixels.shape[:2]
    bpp = 8 * len(data) / (height * width)
    return View(Figures(FILE, None, "", len(data), bpp, psnr, None, milliseconds), picture)
