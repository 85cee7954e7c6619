"""Pictures that were decoded, edited and are saved again."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import softstair
import softstair.pillow
from softstair.commands import encode as encoding
from softstair.errors import UsageError
from softstair.stream import read_stream

from .tiny import encode_tiled, photograph, screen_with_photograph


def psnr(one, other):
    return -10 * math.log10(np.square(one.astype(float) - other).mean() / 255**2 + 1e-12)


def edited(pixels, seed, top=40, left=56, side=64):
    result = pixels.copy()
    result[top : top + side, left : left + side] = photograph(side, side, seed)
    return result


@pytest.mark.parametrize("mode", ["scalar", "tcq8"])
def test_what_was_not_edited_is_the_old_file_again(mode, tiny_bundle):
    old = softstair.encode(photograph(160, 200), 60, mode=mode, bundle=tiny_bundle)
    pixels = softstair.decode(old, bundle=tiny_bundle)
    by_one = np.clip(pixels.astype(int) + np.random.default_rng(0).integers(-1, 2, pixels.shape), 0, 255)
    assert softstair.encode(pixels, like=old, bundle=tiny_bundle) == old
    assert softstair.encode(by_one.astype(np.uint8), like=old, bundle=tiny_bundle) == old


def test_tiles_that_were_not_edited_keep_their_payloads(tiny_bundle):
    old = encode_tiled(photograph(300, 560), tiny_bundle, 80, layout=1)
    changed = edited(softstair.decode(old, bundle=tiny_bundle), 9)
    new = softstair.encode(changed, like=old, bundle=tiny_bundle)
    same = [one == other for one, other in zip(read_stream(old).tiles, read_stream(new).tiles, strict=True)]
    assert same == [False] + [True] * (len(same) - 1)
    found = softstair.decode(new, bundle=tiny_bundle)
    part = np.s_[40:104, 56:120]
    fresh = softstair.decode(encode_tiled(changed, tiny_bundle, 80, layout=1), bundle=tiny_bundle)
    assert psnr(found[part], changed[part]) > psnr(fresh[part], changed[part]) - 0.5
    assert not read_stream(new).exact


def test_an_edit_lies_exactly_over_what_a_trellis_coded(tiny_bundle):
    old = softstair.encode(photograph(160, 200), 60, mode="tcq8", bundle=tiny_bundle)
    was = softstair.decode(old, bundle=tiny_bundle)
    changed = edited(was, 5, side=40)
    found = softstair.decode(softstair.encode(changed, like=old, bundle=tiny_bundle), bundle=tiny_bundle)
    assert np.array_equal(found, changed)


def test_a_picture_that_is_another_is_coded_and_not_kept_exactly(tiny_bundle):
    old = softstair.encode(photograph(160, 200), 40, mode="tcq8", bundle=tiny_bundle)
    new = softstair.encode(photograph(160, 200, 8), like=old, bundle=tiny_bundle)
    assert not read_stream(new).exact
    assert len(new) < 1.5 * len(old)


@pytest.mark.parametrize("mode", ["rdoq", "tcq8"])
def test_many_edits_of_a_place_leave_the_rest_alone(mode, tiny_bundle):
    data = softstair.encode(photograph(192, 224), 60, mode=mode, bundle=tiny_bundle)
    first = softstair.decode(data, bundle=tiny_bundle)
    for seed in range(6):
        data = softstair.encode(
            edited(softstair.decode(data, bundle=tiny_bundle), seed), like=data, bundle=tiny_bundle
        )
    last = softstair.decode(data, bundle=tiny_bundle)
    away = np.ones(first.shape[:2], bool)
    away[: 40 + 64 + 48, : 56 + 64 + 48] = False
    assert psnr(last[away], first[away]) > 42


def test_exact_tiles_and_alpha_are_kept_or_made_anew(tiny_bundle):
    pixels, _ = screen_with_photograph()
    alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    alpha[:5] = 7
    old = softstair.encode(np.dstack([pixels, alpha]), 70, bundle=tiny_bundle)
    was = softstair.decode(old, bundle=tiny_bundle)
    assert softstair.encode(was, like=old, bundle=tiny_bundle) == old
    was[100:120, 10:30, :3] = (200, 10, 30)
    was[50:60, 50:60, 3] = 9
    new = softstair.decode(softstair.encode(was, like=old, bundle=tiny_bundle), bundle=tiny_bundle)
    assert np.array_equal(new[..., 3], was[..., 3])
    if read_stream(old).exact:
        assert np.array_equal(new[100:120, 10:30], was[100:120, 10:30])


def test_pillow_saves_an_untouched_picture_as_it_is_where_the_rate_is_the_same(photo):
    data = softstair.encode(photo[:120, :150], 60, effort=2)

    def saved(change=None, **options):
        image = Image.open(io.BytesIO(data))
        image.load()
        if change:
            change(image)
        buffer = io.BytesIO()
        image.save(buffer, "STAIR", effort=2, **options)
        return buffer.getvalue()

    assert saved(quality=60) == data
    assert saved(quality=55) != data
    assert saved(lambda image: image.putpixel((3, 4), (1, 2, 3)), quality=60) != data
    with_xmp = read_stream(saved(quality=60, xmp=b"<x/>"))
    assert with_xmp.metadata.xmp == b"<x/>"
    assert with_xmp.tiles == read_stream(data).tiles


def test_a_lossless_file_is_made_anew_without_loss(tiny_bundle):
    old = softstair.encode(photograph(40, 50), lossless=True, bundle=tiny_bundle)
    changed = edited(photograph(40, 50), 3, 8, 8, 16)
    assert np.array_equal(softstair.decode(softstair.encode(changed, like=old)), changed)


def test_what_does_not_belong_together_is_refused(tiny_bundle, small_photo):
    old = softstair.encode(small_photo, 60, bundle=tiny_bundle)
    for other in (small_photo[:-1], small_photo[..., 0]):
        with pytest.raises(UsageError, match="another size or colour"):
            softstair.encode(other, like=old, bundle=tiny_bundle)
    for options in ({"quality": 50}, {"effort": 2}, {"mode": "rdoq"}, {"progressive": True}):
        with pytest.raises(UsageError, match="old file"):
            softstair.encode(small_photo, like=old, bundle=tiny_bundle, **options)


def test_the_command_saves_again(small_photo, tmp_path):
    old = softstair.encode(small_photo, 60, effort=1)
    (tmp_path / "old.stair").write_bytes(old)
    Image.fromarray(softstair.decode(old)).save(tmp_path / "p.png")
    arguments = [
        str(tmp_path / "p.png"),
        "--like",
        str(tmp_path / "old.stair"),
        "-o",
        str(tmp_path / "new.stair"),
    ]
    CliRunner().invoke(encoding.command, arguments, catch_exceptions=False)
    assert (tmp_path / "new.stair").read_bytes() == old
    with pytest.raises(UsageError, match="--like takes"):
        CliRunner().invoke(encoding.command, [*arguments, "-q", "50"], catch_exceptions=False)
