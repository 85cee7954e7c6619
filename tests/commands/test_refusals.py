"""Every refusal of the commands that people use: its exit code, its sentence, and nothing written."""

from __future__ import annotations

import os
import re
import struct
import sys
from pathlib import Path

import pytest
from PIL import Image

import softstair
from softstair.commands import main

from .. import files_of_people as people
from ..conftest import GOLDEN
from ..tiny import photograph

TINY = str(GOLDEN / "v1" / "tiny.stairs")


def empty_png(width: int, height: int) -> bytes:
    """A PNG that states a size and holds no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", b""), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(people.chunk(*one) for one in chunks)


# Exit code, arguments, and what the sentence says. Names in braces are files.
REFUSALS = [
    # Used wrongly
    (2, "nonsense", "No such command"),
    (2, "encode", "Missing argument"),
    (2, "encode nowhere.png", "nowhere.png does not exist"),
    (2, "encode {photo} -q 101", "not in the range"),
    (2, "encode {photo} -q nan", "finite|not in the range"),
    (2, "encode {photo} --target-bpp nan", "Target bpp must be a finite number"),
    (2, "encode {photo} --target-bpp inf", "Target bpp must be a finite number"),
    (2, "encode {photo} --target-psnr nan", "Target psnr must be a finite number"),
    (2, "encode {photo} --target-psnr=-inf", "Target psnr must be a finite number"),
    (2, "encode {photo} --target-size 0", "Target size must be more than 0"),
    (2, "encode {photo} --target-size 1e999", "is not a size"),
    (2, "encode {photo} --target-size " + "9" * 400, "is not a size"),
    (2, "encode {photo} -q 5 --target-size 5k", "Ask for only one of"),
    (2, "encode {photo} -e 5 --mode rdoq", "not for both"),
    (2, "encode {photo} --strip everything", "--strip takes exif, icc, iptc, xmp or all"),
    (2, "encode {photo} --page none", "neither a page number"),
    (2, "encode {photo} --page 0", "neither a page number"),
    (2, "encode {photo} --page 2 -o {made}", "one page, so there is no page 2"),
    (2, "encode - --page all", "--page all needs a file"),
    (2, "decode {stair} -o {out} --region 1,2,3", "is not a region"),
    (2, "decode {stair} -o {out} --region 0,0,121,1", "is not inside the picture"),
    (2, "decode {stair} -o {out} --scale 1/3", "is not one of"),
    (2, "decode {stair} -o {out} --strip all,nothing", "--strip takes"),
    (2, "decode {stair} -o {out} --model {default}", "was made with bundle"),
    # Names of outputs
    (2, "encode {photo} -o {made_png}", "would be a .stair file called .png; name it .stair"),
    (2, "encode {photo} -o {photo} --force", "both source and output|would be a .stair file"),
    (2, "encode {photo} -o {same} --force", "is the source .* which would be lost"),
    (2, "encode {photo} -o {there}", "exists already; pass --force"),
    (2, "encode {photo} -o {folder}/nowhere/a.stair", "there is no folder"),
    (2, "encode {photo} -o {there}/", "is a file; its name ends like a folder's"),
    (2, "encode {photo} {letter} -o {there}", "several inputs need a folder"),
    (2, "encode {photo} {letter} -o -", "cannot be written to standard output"),
    (2, "encode {photo} {twin}", "Two inputs would be written to one output"),
    (2, "encode {empty}", r"There is nothing to do.* Left out: 1 \.txt"),
    (2, "decode {stair} -o {folder}/a.gif", "can be written as .*, not as .gif"),
    (2, "decode {stair} -o {folder}/a", "not as no suffix"),
    (2, "decode {stair} -o {out} --to jpg", "--to jpg contradicts the name"),
    (2, "share {stair} -o {folder}/new/", "must end in .html or .htm"),
    (2, "share {stair} -o {folder}/new.html/", "is a folder; name a file in it"),
    (2, "share {stair} -o {photo} --force", "must end in .html or .htm"),
    (2, "compare {photo} -o {photo} --force", "must end in .html or .htm"),
    (2, "report {text} -o {photo} --force", "must end in .html or .htm"),
    (2, "thumbnail {stair} {stair}", "would be a PNG called .stair"),
    (2, "thumbnail {stair} {folder}/a.jpg", "would be a PNG called .jpg"),
    (2, "encode {nothing}", "A name is empty"),
    (2, "encode {photo} -o {nothing}", "A name is empty"),
    # Sources
    (2, "encode {text} -o {made}", "text.txt is not a picture in a format"),
    (2, "encode /dev/null -o {made}", "/dev/null is empty"),
    (5, "encode /dev/zero -o {made} --max-memory 1M", "/dev/zero has more bytes than the limit of 1 MB"),
    (5, "encode {photo} -o {made} --max-memory 1k", "photo.png has more bytes than the limit"),
    (2, "encode {half} -o {made}", "cannot be decoded"),
    (2, "encode {stair} -o {made}", "is a .stair file already"),
    (2, "encode {folder} -o {made}", "is a file|0 of|failed|There is nothing to do"),
    (5, "encode {huge} -o {made}", "at most 65536 a side can be encoded"),
    (5, "encode {many} -o {made}", "at most 268435456 can be encoded"),
    # Streams
    (3, "info {stair} {text}", "text.txt: The data does not start like a .stair file"),
    (3, "info {cut}", "cut.stair: .* the file is not complete"),
    (3, "decode {cut} -o {out}", "cut.stair: .* the file is not complete"),
    (3, "decode {flipped} -o {out}", "flipped.stair: .*checksum"),
    (3, "decode {newer} -o {out}", "newer.stair: .* has version 9, this release reads"),
    (3, "decode {text} -o {out}", "text.txt: The data does not start like a .stair file"),
    (3, "thumbnail {text} {out}", "text.txt: The data does not start like a .stair file"),
    (3, "share {text} -o {folder}/a.html", "text.txt: The data does not start like a .stair file"),
    # Bundles
    (4, "decode {strange} -o {out}", "which is not installed; pass --model FILE"),
    (4, "encode {photo} -o {made} --model nobody", "No bundle is called 'nobody'; installed are"),
    (4, "encode {photo} -o {made} --model nowhere.stairs", "cannot be read"),
    (4, "encode {photo} -o {made} --model {text}", "is not a readable ZIP file"),
    # Limits
    (5, "decode {stair} -o {out} --max-pixels 100", "more than the limit of 100"),
    (5, "decode {stair} -o {out} --max-memory 10M", "more than the limit of 10 MB"),
    (5, "decode {stair} -o {out} --max-memory 0", "more bytes than the limit of 0 MB"),
    (5, "encode {photo} -o {made} --max-memory 10M", "more than the limit of 10 MB"),
    # Targets
    (6, "encode {photo} -o {made} --target-size 20", "ask for more bytes or scale the picture down"),
    (6, "encode {described} -o {made} --target-size 2k", "leave metadata out with --strip"),
]
NEEDS_TINY = re.compile(r"^(encode|decode)\b(?!.*--model)(?!.*\{strange\})")


@pytest.fixture(scope="module")
def names(tmp_path_factory, tiny_bundle) -> dict[str, Path | str]:
    folder = tmp_path_factory.mktemp("refusals")
    pixels = photograph(90, 120)
    stair = softstair.encode(pixels, bundle=tiny_bundle)
    pages = [Image.new("L", (20, 10), value) for value in (250, 50)]
    contents = {
        "there.stair": b"theirs",
        "text.txt": b"not a picture, and no stream either",
        "huge.png": empty_png(70000, 10),
        "many.png": empty_png(20000, 20000),
        "stair.stair": stair,
        "cut.stair": stair[:-20],
        "flipped.stair": stair[:-9] + bytes([stair[-9] ^ 1]) + stair[-8:],
        "newer.stair": stair[:4] + b"\x09" + stair[5:],
        "strange.stair": stair[:6] + bytes(range(1, 9)) + stair[14:],
        "half.png": people.rgb_png()[:300],
        "described.jpg": people.jpeg((0xE1, b"Exif\0\0" + people.EXIF + os.urandom(9000))),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    Image.fromarray(pixels).save(folder / "photo.png")
    Image.fromarray(pixels).save(folder / "photo.bmp")
    pages[0].save(folder / "letter.tif", save_all=True, append_images=pages[1:])
    (folder / "same.stair").hardlink_to(folder / "photo.png")
    (folder / "empty").mkdir()
    (folder / "empty" / "note.txt").write_bytes(b"")
    found = {path.name.split(".")[0]: path for path in folder.iterdir()}
    return found | {
        "photo": folder / "photo.png",
        "twin": folder / "photo.bmp",
        "made": folder / "made.stair",
        "made_png": folder / "made.png",
        "out": folder / "out.png",
        "folder": folder / "empty",
        "default": Path("photo"),
        "nothing": "",
    }


def called(arguments: list[str], monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", ["softstair", *arguments])
    monkeypatch.setattr("warnings.showwarning", lambda *given, **more: None)
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(("code", "line", "sentence"), REFUSALS, ids=[line[:60] for _, line, _ in REFUSALS])
def test_every_refusal_has_its_code_and_its_sentence(names, monkeypatch, capfd, code, line, sentence):
    arguments = [part.format(**names) for part in line.split()]
    if NEEDS_TINY.match(line):
        arguments += ["--model", TINY]
    folder = names["photo"].parent
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert called(arguments, monkeypatch) == code
    said = capfd.readouterr().err
    assert re.search(sentence, said.replace("\n", " ")), said
    assert "Traceback" not in said
    assert "internal error" not in said
    assert len(said.splitlines()) <= 4
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
