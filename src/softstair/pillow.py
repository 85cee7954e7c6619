"""The Pillow plugin: after ``import softstair.pillow``, Pillow opens and saves .stair files.

    import softstair.pillow
    image = Image.open("photo.stair")            # reads the header; pixels are decoded when needed
    image.save("small.stair", quality=50)        # takes the options of softstair.encode

Errors are those that callers of Pillow expect, each with our sentence: what cannot be opened is an
``UnidentifiedImageError``, what cannot be decoded an ``OSError``, an option that cannot be met a
``ValueError``. docs/pictures.md tells the rest.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from numbers import Integral, Real
from typing import IO, Any

from PIL import Image, ImageFile, UnidentifiedImageError

import softstair
from softstair.bundle import Bundle
from softstair.codec import SCALES, Rate, View, choose_mode, decode_view, position_of
from softstair.errors import (
    CorruptStream,
    LimitExceeded,
    NotAStairFile,
    SoftstairError,
    StreamError,
    TruncatedStream,
    UsageError,
)
from softstair.pictures import as_bytes, bare_exif, metadata_of, picture_from, to_info, to_pil
from softstair.stream import (
    MAGIC,
    MAX_SIDE,
    Colour,
    Metadata,
    Summary,
    read_header,
    read_stream,
    read_summary,
    with_metadata,
)

__all__ = ["FORMAT", "StairImageFile", "register"]

FORMAT = "STAIR"
KEEP = "keep"  # a quality: as it was coded
_ROWS = 256
# Options of softstair.encode and what they must be; Pillow lets anything through.
_OPTIONS: dict[str, type] = {
    "quality": Real,
    "rate_position": Integral,
    "target_size": Integral,
    "target_bpp": Real,
    "target_psnr": Real,
    "lossless": bool,
    "effort": Integral,
    "mode": str,
    "progressive": bool,
    "layers": Integral,
    "bundle": Bundle,
    "threads": Integral,
}
_AT_A_RATE = {"quality", "rate_position", "effort", "mode", "bundle", "threads"}


def register() -> None:
    """Make Pillow know .stair files. Importing this module does it; doing it again changes nothing."""
    Image.register_open(FORMAT, StairImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_save_all(FORMAT, _save_all)
    Image.register_extension(FORMAT, ".stair")
    Image.register_mime(FORMAT, "image/x-stair")


class StairImageFile(ImageFile.ImageFile):
    """A .stair file, opened: size, mode and ``info`` are known, pixels come with ``load()``."""

    format = FORMAT
    format_description = "Softstair image"
    _info: dict[str | tuple[int, int], Any]
    _divisor = 1  # of what is decoded
    _source: tuple[bytes, bytes] | None = None  # the file, and the digest of what it was decoded to

    def _open(self) -> None:
        assert self.fp is not None
        try:
            summary = read_summary(_FileBytes(self.fp))
        except NotAStairFile as error:
            raise SyntaxError(str(error)) from error
        except StreamError as error:  # no other plugin will know better: Pillow need not go on
            raise UnidentifiedImageError(str(error)) from error
        header = summary.header
        self._size = header.width, header.height
        self._mode = ("L" if header.colour is Colour.GREY else "RGB") + ("A" if summary.has_alpha else "")
        self._summary: Summary | None = summary
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size))]  # what says: not loaded yet

    @property
    def info(self) -> dict[str | tuple[int, int], Any]:
        """As of any image; metadata is inflated when someone first asks for it."""
        if (summary := self.__dict__.pop("_summary", None)) is not None:
            for key, value in to_info(summary.metadata).items():
                self._info.setdefault(key, value)
        return self._info

    @info.setter
    def info(self, value: dict[str | tuple[int, int], Any]) -> None:
        self.__dict__.pop("_summary", None)
        self._info = value

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Decode at a part of the size, at least ``size``; ``Image.thumbnail`` asks for it. Modes stay."""
        if size is None or len(self.tile) != 1 or self._divisor != 1:
            return None
        enough = [d for d in SCALES if self.width >= size[0] * d and self.height >= size[1] * d]
        self._divisor = max(enough, default=1)
        width, height = self.size
        self._size = -(-width // self._divisor), -(-height // self._divisor)
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size))]
        return self.mode, (0, 0, width / self._divisor, height / self._divisor)

    def load(self) -> Any:
        """Decode, once. ``ImageFile.LOAD_TRUNCATED_IMAGES`` fills what is cut or damaged.

        Raises:
            OSError: the file is cut or damaged, or its bundle is missing.
            DecompressionBombError: more than twice ``Image.MAX_IMAGE_PIXELS``.
        """
        if self.tile:
            data = self._bytes()
            image, whole = self._decode(data)
            if (image.size, image.mode) != (self.size, self.mode):
                raise OSError("The file is not the one that was opened; open it again.")
            self.im, self.readonly, self.tile = image.im, image.readonly, []
            self._source = (data, _digest(self)) if whole else None
            if self.fp and self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Its presence tells ``ImageFile.Parser`` that the tile is not for Pillow's own decoders."""

    def verify(self) -> None:
        """Check every length and checksum, without decoding and without a bundle.

        Raises:
            OSError: the file is cut or damaged.
        """
        try:
            read_stream(self._bytes(), max_pixels=_max_pixels())
        except SoftstairError as error:
            raise OSError(str(error)) from error
        super().verify()

    def untouched(self) -> bytes | None:
        """The file that the image was read from; None if its pixels are others by now."""
        if self._source is None or _digest(self) != self._source[1]:
            return None
        return self._source[0]

    def _decode(self, data: bytes) -> tuple[Image.Image, bool]:
        """The image, and whether it is all that the file should hold."""
        partial = ImageFile.LOAD_TRUNCATED_IMAGES
        try:
            decoded = decode_view(
                data, View(divisor=self._divisor, allow_partial=partial), max_pixels=_max_pixels()
            )
        except LimitExceeded as error:
            raise Image.DecompressionBombError(str(error)) from error
        except (TruncatedStream, CorruptStream) as error:
            if not partial:
                raise OSError(str(error)) from error
            return Image.new("RGB", self.size, (128, 128, 128)).convert(self.mode), False
        except SoftstairError as error:
            raise OSError(str(error)) from error
        image = to_pil(decoded.picture)
        return image if decoded.complete_extras else image.convert(
            self.mode
        ), decoded.damage is None and self._divisor == 1

    def _bytes(self) -> bytes:
        if self.fp is None:
            raise ValueError("Operation on closed image")  # as Pillow says it
        self.fp.seek(0)
        return self.fp.read()


class _FileBytes:
    """A file that can be cut like bytes, so that its payload need not be read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        file.seek(0, os.SEEK_END)
        self._size = file.tell()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        self._file.seek(start)
        return self._file.read(max(0, stop - start))


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _max_pixels() -> int:
    """Pillow's limit is ours: beyond it Pillow warns, beyond its double it refuses."""
    return MAX_SIDE * MAX_SIDE if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def _digest(image: Image.Image) -> bytes:
    """Of mode, size and pixels, a few rows at a time."""
    digest = hashlib.blake2b(repr((image.mode, image.size)).encode())
    for top in range(0, image.height, _ROWS):
        digest.update(image.crop((0, top, image.width, min(image.height, top + _ROWS))).tobytes())
    return digest.digest()


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    if image.encoderinfo.get("quality") == KEEP:
        file.write(_as_kept(image))
        return
    given = {name: _checked(name, image.encoderinfo.get(name)) for name in _OPTIONS}
    options = {name: value for name, value in given.items() if value is not None}
    if (own := _own(image, options)) is not None:
        file.write(own)
        return
    picture = picture_from(image)
    picture = replace(picture, metadata=_chosen(picture.metadata, image.encoderinfo))
    try:
        data = softstair.encode(picture, **options)
    except (UsageError, LimitExceeded) as error:
        raise ValueError(str(error)) from error
    except SoftstairError as error:
        raise OSError(str(error)) from error
    file.write(data)


def _save_all(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    if image.encoderinfo.get("append_images") or getattr(image, "n_frames", 1) > 1:
        raise ValueError("A .stair file holds one picture; save each frame into a file of its own.")
    _save(image, file, filename)


def _own(image: Image.Image, options: dict[str, Any]) -> bytes | None:
    """The file of a picture that is asked for as it is already: encoded anew it would only lose."""
    if not isinstance(image, StairImageFile) or set(options) - _AT_A_RATE:
        return None
    if (data := image.untouched()) is None:
        return None
    try:
        header, bundle = read_header(data), options.get("bundle") or softstair.open_bundle()
        wanted = Rate(options.get("quality"), options.get("rate_position"))
        mode = choose_mode(bundle, options.get("effort"), options.get("mode"))
        same = (bundle.fingerprint, mode, position_of(wanted, bundle.last_position))
    except SoftstairError:
        return None  # whoever encodes will say it
    if wanted.is_exact or header.layers > 1 or same != (header.needs, header.mode, header.position):
        return None
    return _kept(image, data)


def _kept(image: Image.Image, data: bytes) -> bytes:
    """A file with the metadata that its image has now."""
    metadata, _ = metadata_of(image)
    try:
        return with_metadata(data, _chosen(metadata, image.encoderinfo), max_pixels=MAX_SIDE * MAX_SIDE)
    except LimitExceeded as error:
        raise ValueError(str(error)) from error


def _as_kept(image: Image.Image) -> bytes:
    """The very payload that an image was read from, with the metadata that it has now."""
    others = [name for name in _OPTIONS if name != "quality" and image.encoderinfo.get(name) is not None]
    if others:
        raise ValueError(f"quality={KEEP!r} keeps the file as it was coded; leave {others[0]} out.")
    data = image.untouched() if isinstance(image, StairImageFile) else None
    if data is None:
        raise ValueError(
            f"quality={KEEP!r} is for a picture that was opened from a whole .stair file and not changed; "
            "ask for a quality from 0 to 100."
        )
    return _kept(image, data)


def _checked(name: str, value: Any) -> Any:
    kind = _OPTIONS[name]
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool)):
        raise ValueError(f"{name} must be of type {kind.__name__}, not {value!r}.")
    return value


def _chosen(metadata: Metadata, options: dict[str, Any]) -> Metadata:
    """The image's own metadata, but for what is given to ``save``; None or nothing leaves it out."""
    if "icc_profile" in options:
        metadata = replace(metadata, icc=as_bytes(options["icc_profile"]))
    if "exif" in options:
        metadata = replace(metadata, exif=bare_exif(as_bytes(options["exif"]) or b"") or None)
    if "xmp" in options:
        metadata = replace(metadata, xmp=as_bytes(options["xmp"]))
    return metadata


register()
