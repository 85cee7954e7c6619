"""Pictures: pixels with what belongs to them, and the rules for getting them in and out.

Sources of any Pillow mode become 8-bit RGB or grey: bilevel, grey and deep grey become grey;
palettes, CMYK and everything else become RGB. Transparency becomes a plane of its own. ICC, EXIF,
XMP and IPTC are kept verbatim, except a profile of other colours than the pixels have. Pixels are
not turned: the orientation stays where it is, in EXIF. docs/pictures.md has it all.
"""

from __future__ import annotations

from .exif import bare_exif
from .formats import check_size, is_picture_name, missing_suffixes, source_suffixes
from .metadata import KINDS, as_bytes, for_a_part, metadata_of, to_info
from .picture import Note, Picture
from .reading import count_pages, picture_from, read_picture
from .transparent import fill_hidden
from .writing import FORMATS, check_writable, strip, to_pil, write_and_tell, write_picture

__all__ = [
    "FORMATS",
    "KINDS",
    "Note",
    "Picture",
    "as_bytes",
    "bare_exif",
    "check_size",
    "check_writable",
    "count_pages",
    "fill_hidden",
    "for_a_part",
    "is_picture_name",
    "metadata_of",
    "missing_suffixes",
    "picture_from",
    "read_picture",
    "source_suffixes",
    "strip",
    "to_info",
    "to_pil",
    "write_and_tell",
    "write_picture",
]
