"""Every format, mode and kind of source becomes the picture that a person sees."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import ImageCms

from broken_files import encoded, photo
from lookalike import registry
from lookalike.errors import ConfigError, InputError, UnreadableImage
from lookalike.images import Limits, files, jpeg, read, read_bytes, read_file, thumbnail
from lookalike.types import Image

ROUTES_TOLERANCE = 2  # of 255: the stated difference between the fast route and Pillow


def plain(picture: PIL.Image.Image) -> NDArray[np.int_]:
    return np.asarray(picture.convert("RGB")).astype(int)


def difference(image: Image, expected: Any) -> int:
    assert image.pixels.shape == np.shape(expected)
    return int(np.abs(image.pixels.astype(int) - expected).max())


# Formats


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("PPM", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_give_back_the_pixels(kind: str, options: dict[str, Any]) -> None:
    image = read_bytes(encoded(photo(), kind, **options), "here")
    assert difference(image, plain(photo())) == 0
    assert (image.size, image.format, image.source) == ((64, 48), kind, "here")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "GIF"])
def test_lossy_formats_agree_with_plain_pillow(kind: str) -> None:
    data = encoded(photo(), kind)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert difference(read_bytes(data), plain(opened)) <= ROUTES_TOLERANCE


def test_heic_is_read_with_the_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs lookalike[heic]")
    out = io.BytesIO()
    pillow_heif.from_pillow(photo()).save(out, quality=95)
    image = read_bytes(out.getvalue())
    assert image.format == "HEIC"
    assert np.abs(image.pixels - plain(photo())).mean() < 4


def test_heic_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(UnreadableImage, match=r"pip install 'lookalike\[heic\]'"):
        read_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_or_pages_the_first_is_read(kind: str) -> None:
    second = PIL.Image.new("RGB", (64, 48), "red")
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    many = encoded(photo(), kind, save_all=True, append_images=[second], **options)
    assert difference(read_bytes(many), read_bytes(encoded(photo(), kind, **options)).pixels.astype(int)) == 0


# Modes


def test_sixteen_bit_grey_is_rescaled_and_keeps_its_order() -> None:
    ramp = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(4, 256)
    for data in (encoded(PIL.Image.fromarray(ramp), "PNG"), encoded(PIL.Image.fromarray(ramp), "TIFF")):
        grey = read_bytes(data).pixels[:, :, 0].ravel().astype(int)
        assert (grey[0], grey[-1]) == (0, 255)
        assert (np.diff(grey) >= 0).all()
        assert np.array_equal(grey, [round(int(value) / 257) for value in ramp.ravel()])


def test_sixteen_bit_pgm_is_grey_of_the_same_scale() -> None:
    samples = np.array([[257, 25700, 51400]], ">u2")  # neither black nor white: its own range must not be stretched
    pixels = read_bytes(b"P5 3 1 65535\n" + samples.tobytes()).pixels
    assert pixels[0, :, 0].tolist() == [1, 100, 200]


def test_floats_and_long_integers_span_from_their_smallest_to_their_largest() -> None:
    floats = np.array([[-1.0, 0.0, 1.0, np.nan]], np.float32)
    assert read_bytes(encoded(PIL.Image.fromarray(floats), "TIFF")).pixels[0, :, 0].tolist() == [0, 128, 255, 0]
    longs = np.array([[-1000, 0, 3000]], np.int32)
    assert read_bytes(encoded(PIL.Image.fromarray(longs), "TIFF")).pixels[0, :, 0].tolist() == [0, 64, 255]


def test_cmyk_of_jpeg_and_tiff_becomes_the_plain_colours() -> None:
    inks = np.array([[[255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 128]]], np.uint8)
    colors = [[0, 255, 255], [255, 0, 255], [255, 255, 255], [0, 0, 0], [127, 127, 127]]  # (255-C)(255-K)/255
    assert difference(read_bytes(encoded(PIL.Image.fromarray(inks, "CMYK"), "TIFF")), [colors]) == 0
    wide = PIL.Image.fromarray(inks.repeat(16, 0).repeat(16, 1), "CMYK")
    blocks = read_bytes(encoded(wide, "JPEG", quality=100, subsampling=0)).pixels[8, 8::16]
    assert np.abs(blocks - np.array(colors)).max() <= 3


def test_one_bit_and_palette_pictures_keep_their_colours() -> None:
    bits = PIL.Image.fromarray(np.eye(9, dtype=bool))
    assert difference(read_bytes(encoded(bits, "PNG")), np.eye(9, dtype=int)[:, :, None] * [255, 255, 255]) == 0
    palette = PIL.Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        assert read_bytes(encoded(palette, kind)).pixels.tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


# Alpha


def hidden_garbage() -> NDArray[np.uint8]:
    """(8, 8) RGBA: noise, wholly transparent on the left, opaque on the right."""
    rgba = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    rgba[:, :4, 3], rgba[:, 4:, 3] = 0, 255
    return rgba


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_garbage_under_transparency_does_not_show(kind: str) -> None:
    rgba = hidden_garbage()
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = read_bytes(encoded(PIL.Image.fromarray(rgba), kind, **options))
    assert (image.pixels[:, :4] == 255).all()
    assert np.array_equal(image.pixels[:, 4:], rgba[:, 4:, :3])


def test_garbage_under_transparent_grey_does_not_show() -> None:
    grey_alpha = np.ascontiguousarray(hidden_garbage()[:, :, [0, 3]])
    image = read_bytes(encoded(PIL.Image.fromarray(grey_alpha, "LA"), "PNG"))
    assert (image.pixels[:, :4] == 255).all()
    assert np.array_equal(image.pixels[:, 4:, 1], grey_alpha[:, 4:, 0])


def test_transparent_palette_entries_and_colour_keys_show_the_background() -> None:
    palette = PIL.Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 40, 50, 60])
    seen = [[[255, 255, 255], [40, 50, 60]]]
    assert read_bytes(encoded(palette, "PNG", transparency=0)).pixels.tolist() == seen
    assert read_bytes(encoded(palette, "PNG", transparency=b"\0\xff")).pixels.tolist() == seen
    assert read_bytes(encoded(palette, "GIF", transparency=0)).pixels.tolist() == seen
    assert read(palette.convert("PA")).pixels.tolist() == [[[9, 9, 9], [40, 50, 60]]]
    keyed = PIL.Image.fromarray(np.array([[[9, 9, 9], [40, 50, 60]]], np.uint8))
    assert read_bytes(encoded(keyed, "PNG", transparency=(9, 9, 9))).pixels.tolist() == seen
    grey = PIL.Image.fromarray(np.array([[7, 8]], np.uint8))
    assert read_bytes(encoded(grey, "PNG", transparency=7)).pixels[0, :, 0].tolist() == [255, 8]
    deep = PIL.Image.fromarray(np.array([[2570, 2571]], np.uint16))
    with_key = encoded(deep, "PNG")
    chunk = struct.pack(">I", 2) + b"tRNS" + struct.pack(">H", 2570) + b"\0\0\0\0"
    chunk = chunk[:-4] + struct.pack(">I", zlib.crc32(chunk[4:-4]))
    at = with_key.index(b"IDAT") - 4
    assert read_bytes(with_key[:at] + chunk + with_key[at:]).pixels[0, :, 0].tolist() == [255, 10]


def test_half_transparent_colour_is_mixed_with_white() -> None:
    rgba = np.array([[[0, 100, 200, 51]]], np.uint8)  # a fifth: 0 + 255 * 4/5, 20 + 204, 40 + 204
    assert read(rgba).pixels.tolist() == [[[204, 224, 244]]]
    assert read_bytes(encoded(PIL.Image.fromarray(rgba), "PNG")).pixels.tolist() == [[[204, 224, 244]]]


def test_strips_join_without_a_seam() -> None:
    tall = photo(300, 2000).convert("RGBA")
    assert difference(read_bytes(encoded(tall, "PNG")), plain(photo(300, 2000))) == 0


# Colour profiles


def swapped_primaries() -> bytes:
    """sRGB with the red and the blue primary exchanged: what it calls red is our blue."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tmp.", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"tmp.", b"bXYZ", 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_profile_leads_to_srgb(kind: str) -> None:
    colors = [(200, 30, 60), (10, 240, 120), (128, 128, 128)]
    squares = np.array([colors], np.uint8).repeat(16, 0).repeat(16, 1)
    options: dict[str, Any] = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    data = encoded(PIL.Image.fromarray(squares), kind, icc_profile=swapped_primaries(), **options)
    seen = read_bytes(data).pixels[8, 8::16]
    assert np.abs(seen - np.array(colors)[:, ::-1]).max() <= 4


@pytest.mark.parametrize("profile", [b"garbage", swapped_primaries()[:300], b"\0" * 5000])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_broken_profile_is_ignored(kind: str, profile: bytes) -> None:
    data = encoded(photo(), kind, icc_profile=profile)
    assert difference(read_bytes(data), read_bytes(encoded(photo(), kind)).pixels.astype(int)) == 0


def test_a_profile_for_other_pixels_is_ignored() -> None:
    grey = photo().convert("L")
    data = encoded(grey, "PNG", icc_profile=swapped_primaries())
    assert difference(read_bytes(data), plain(grey)) == 0


# Which way is up, and when


TURNS = {  # what a camera stored, for the picture to be upright after EXIF orientation 1..8 (EXIF 2.3, table 6)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def with_exif(picture: PIL.Image.Image, kind: str, tags: dict[int, Any], **options: Any) -> bytes:
    exif = PIL.Image.Exif()
    details = tags.get(0x8769, {})
    exif.update({tag: value for tag, value in tags.items() if tag != 0x8769})
    if details:
        exif.get_ifd(0x8769).update(details)
    return encoded(picture, kind, exif=exif.tobytes(), **options)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_same_pixels(kind: str, orientation: int) -> None:
    stored = PIL.Image.fromarray(np.ascontiguousarray(TURNS[orientation](np.asarray(photo(40, 23)))))
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    image = read_bytes(with_exif(stored, kind, {0x0112: orientation}, **options))
    assert image.size == (40, 23)
    assert difference(image, plain(photo(40, 23))) == 0


@pytest.mark.parametrize("at_least", [None, 50])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_jpeg_is_one_picture(orientation: int, at_least: int | None) -> None:
    upright = photo(400, 240)  # whole blocks, so that a reduced pixel is the mean of 4 x 4, however it is turned
    stored = PIL.Image.fromarray(np.ascontiguousarray(TURNS[orientation](np.asarray(upright))))
    data = with_exif(stored, "JPEG", {0x0112: orientation}, quality=95, subsampling=0)
    image = read_bytes(data, at_least=at_least)
    expected = upright if at_least is None else upright.resize(image.pixels.shape[1::-1], PIL.Image.Resampling.BOX)
    assert image.size == (400, 240)
    assert np.abs(image.pixels - plain(expected)).mean() < 2


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_leaves_the_picture_as_it_is(orientation: int) -> None:
    data = with_exif(photo(), "PNG", {0x0112: orientation})
    assert difference(read_bytes(data), plain(photo())) == 0


def test_garbage_for_exif_is_ignored() -> None:
    for blob in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 40):
        image = read_bytes(encoded(photo(), "JPEG", exif=blob))
        assert (image.size, image.taken) == ((64, 48), None)


@pytest.mark.parametrize(
    ("tags", "taken"),
    [
        ({0x0132: "2020:02:03 04:05:06"}, "2020-02-03T04:05:06"),
        ({0x0132: "2020:02:03 04:05:06", 0x8769: {0x9003: "2019:12:31 23:59:58"}}, "2019-12-31T23:59:58"),
        ({0x0132: "2020:13:45 04:05:06"}, None),
        ({0x0132: "0000:00:00 00:00:00"}, None),
        ({0x0132: "yesterday"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_date_is_the_original_one_and_valid(kind: str, tags: dict[int, Any], taken: str | None) -> None:
    assert read_bytes(with_exif(photo(), kind, tags)).taken == taken


# The fast route


def by_pillow(data: bytes, at_least: int | None, monkeypatch: pytest.MonkeyPatch) -> Image | str:
    with monkeypatch.context() as patched:
        patched.setattr("lookalike.images.reading.decode_fast", lambda *_: None)
        return outcome(data, at_least)


def outcome(data: bytes, at_least: int | None) -> Image | str:
    try:
        return read_bytes(data, at_least=at_least)
    except UnreadableImage as error:
        return error.reason


@pytest.mark.parametrize("size", [(1, 1), (17, 9), (333, 501), (640, 480), (1001, 260)])
@pytest.mark.parametrize("sampling", [0, 1, 2, "grey"])
@pytest.mark.parametrize("progressive", [False, True])
def test_both_routes_give_the_same_picture(
    size: tuple[int, int], sampling: int | str, progressive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = photo(*size)
    noise = np.random.default_rng(1).integers(-20, 20, (size[1], size[0], 3))
    picture = PIL.Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))
    if sampling == "grey":
        data = with_exif(picture.convert("L"), "JPEG", {0x0112: 6}, progressive=progressive)
    else:
        data = with_exif(picture, "JPEG", {0x0112: 6}, progressive=progressive, subsampling=sampling)
    for at_least in (None, 1, 30, 100, 224):
        fast, slow = read_bytes(data, at_least=at_least), by_pillow(data, at_least, monkeypatch)
        assert isinstance(slow, Image)
        assert difference(fast, slow.pixels.astype(int)) <= ROUTES_TOLERANCE
        assert (fast.size, fast.taken) == (slow.size, slow.taken)


def test_the_fast_route_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.images.reading.open_picture", lambda *_: pytest.fail("Pillow was asked"))
    for options in ({}, {"progressive": True}, {"icc_profile": swapped_primaries()}):
        assert read_bytes(encoded(photo(), "JPEG", **options)).size == (64, 48)


def test_a_jpeg_cut_anywhere_has_the_same_fate_on_both_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({}, {"progressive": True}):
        data = encoded(photo(), "JPEG", **options)
        for end in range(len(data) // 3, len(data), 37):
            fast, slow = outcome(data[:end], None), by_pillow(data[:end], None, monkeypatch)
            assert isinstance(fast, str)
            assert fast == slow
            assert "truncated" in fast


FULL, HALF, QUARTER, EIGHTH = (1000, 600), (500, 300), (250, 150), (125, 75)


@pytest.mark.parametrize(
    ("at_least", "sides"),
    [(None, FULL), (700, FULL), (301, FULL), (300, HALF), (150, QUARTER), (75, EIGHTH), (1, EIGHTH)],
)
def test_a_reduced_jpeg_keeps_at_least_what_was_asked_for(at_least: int | None, sides: tuple[int, int]) -> None:
    image = read_bytes(encoded(photo(1000, 600), "JPEG"), at_least=at_least)
    assert image.pixels.shape == (sides[1], sides[0], 3)
    assert image.size == (1000, 600)


def test_other_formats_are_reduced_only_when_large(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photo(1000, 600).convert("RGBA"), "PNG")
    assert read_bytes(data, at_least=100).pixels.shape == (600, 1000, 3)
    monkeypatch.setattr("lookalike.images.reading._LARGE_PIXELS", 500_000)
    image = read_bytes(data, at_least=150)
    assert (image.pixels.shape, image.size) == ((150, 250, 3), (1000, 600))
    boxes = np.asarray(photo(1000, 600)).reshape(150, 4, 250, 4, 3).mean((1, 3))
    assert np.abs(image.pixels - boxes).max() <= 1


# Sources


def test_a_path_may_be_text_or_path_and_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded(photo(), "PNG"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), "~/a.png"):
        image = read(source)
        assert difference(image, plain(photo())) == 0
        assert image.source == str(source)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "gone.jpg", "no such file"), (tmp_path, "a folder, not a file")):
        with pytest.raises(UnreadableImage) as caught:
            read(path)
        assert (caught.value.source, caught.value.reason) == (str(path), reason)


def test_an_image_is_returned_as_it_is() -> None:
    image = read(photo())
    assert read(image) is image


def test_arrays_of_every_accepted_kind_are_one_picture() -> None:
    rgb = np.asarray(photo())
    for array in (rgb, rgb.astype(np.uint16) * 257, rgb / 255.0, (rgb / 255.0).astype(np.float32), rgb[:, ::1]):
        assert difference(read(array), rgb.astype(int)) == 0
    grey = rgb[:, :, 0]
    for array in (grey, grey[:, :, None]):
        assert difference(read(array), np.stack([grey.astype(int)] * 3, -1)) == 0
    assert read(np.array([[65280]], np.uint16)).pixels[0, 0, 0] == 254  # 65280 / 257 = 254.008
    assert read(np.array([[True, False]])).pixels[0, :, 2].tolist() == [255, 0]
    opaque = np.dstack([rgb, np.full_like(grey, 255)])
    assert difference(read(opaque), rgb.astype(int)) == 0


def test_an_array_that_changes_later_does_not_change_the_image() -> None:
    array = np.array(photo())
    image = read(array)
    array[:] = 0
    assert difference(image, plain(photo())) == 0


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\)"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.full((4, 4), 255.0), "255"),
        (np.full((4, 4), np.nan), "nan"),
        (np.full((4, 4), -0.5), "-0.5"),
    ],
)
def test_an_array_that_is_no_picture_says_what_is_accepted(array: NDArray[Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(array)
    assert "uint8, uint16" in str(caught.value)


def test_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="got int"):
        read(7)  # type: ignore[arg-type]


def test_a_pil_image_is_turned_and_laid_on_white_like_a_file() -> None:
    data = with_exif(PIL.Image.fromarray(hidden_garbage()), "PNG", {0x0112: 6})
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert difference(read(opened), read_bytes(data).pixels.astype(int)) == 0


def test_a_pil_image_of_a_damaged_file_is_refused() -> None:
    data = encoded(photo(), "PNG")
    with (
        PIL.Image.open(io.BytesIO(data[: len(data) // 2])) as opened,
        pytest.raises(UnreadableImage, match="truncated"),
    ):
        read(opened)


# Limits


def test_limits_come_from_the_environment_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photo(), "PNG")
    for variable, value in (("PIXELS", 64 * 48 - 1), ("BYTES", len(data) - 1), ("MEMORY", 1000)):
        with monkeypatch.context() as patched:
            patched.setenv(f"LOOKALIKE_MAX_{variable}", str(value))
            with pytest.raises(UnreadableImage, match=rf"too large: .*LOOKALIKE_MAX_{variable} \(now {value}"):
                read_bytes(data)
    monkeypatch.setenv("LOOKALIKE_MAX_PIXELS", str(64 * 48))
    assert read_bytes(data).size == (64, 48)


@pytest.mark.parametrize("value", ["many", "-1", "0", "1e9"])
def test_a_limit_that_is_no_number_is_a_wrong_choice(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_MAX_BYTES", value)
    with pytest.raises(ConfigError, match="LOOKALIKE_MAX_BYTES"):
        read_bytes(encoded(photo(), "PNG"))


def test_large_pictures_wait_for_one_another() -> None:
    limits, inside, most = Limits(max_memory=100), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        with limits.memory(60):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join(10) for thread in threads]
    assert (most[0], inside[0]) == (1, 0)


def test_running_out_of_memory_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lookalike.images.reading.open_picture", full)
    with pytest.raises(UnreadableImage, match="not enough memory"):
        read_bytes(encoded(photo(), "PNG"))


@pytest.mark.parametrize("error", [RecursionError, SyntaxError, struct.error, IndexError, AssertionError])
def test_what_a_decoder_raises_becomes_ours(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise error("line one\nline two")

    monkeypatch.setattr("lookalike.images.reading.open_picture", broken)
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(encoded(photo(), "PNG"))
    assert caught.value.reason == "damaged PNG: line one line two"
    assert caught.value.__cause__ is not None


def test_an_interrupt_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lookalike.images.reading.open_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_bytes(encoded(photo(), "PNG"))


PEAK = """
import sys, threading
from lookalike.images import read
threads = [threading.Thread(target=lambda: [read(sys.argv[1], at_least=448) for _ in range(3)]) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("name", "size", "options", "mib"),
    [
        ("a.jpg", (4000, 3000), {}, 150),
        ("progressive.jpg", (4000, 3000), {"progressive": True, "subsampling": 0}, 300),
        ("a.png", (10000, 10000), {"compress_level": 1}, 1024),
    ],
)
def test_two_threads_stay_within_the_stated_memory(
    tmp_path: Path, name: str, size: tuple[int, int], options: dict[str, Any], mib: int
) -> None:
    mode = "RGBA" if name.endswith("png") else "RGB"
    path = tmp_path / name
    PIL.Image.new(mode, size, (10, 200, 30, 128)[: len(mode)]).save(path, **options)
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    print(f"{name}: {int(done.stdout) // 1024} MiB")
    assert int(done.stdout) < mib * 1024


# Bytes of a file


def test_the_bytes_of_an_old_file_come_with_its_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    os.utime(path, ns=(10**18, 10**18))
    assert read_file(path) == (b"abc", 3, 10**18)


def test_the_time_of_a_young_file_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    assert read_file(path) == (b"abc", 3, None)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableImage, match="a named pipe, not a file"):
        read_file(tmp_path / "pipe")


@pytest.mark.parametrize(("changes", "fails"), [(1, False), (9, True)])
def test_a_file_that_changes_while_it_is_read_is_read_once_more(
    tmp_path: Path, changes: int, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, left = tmp_path / "a.bin", files._read_up_to, [changes]
    path.write_bytes(b"abc")

    def read_and_change(file: io.FileIO, count: int) -> bytes:
        data = real(file, count)
        if left[0] > 0:
            left[0] -= 1
            path.write_bytes(b"changed" * (left[0] + 1))
        return data

    monkeypatch.setattr(files, "_read_up_to", read_and_change)
    if fails:
        with pytest.raises(UnreadableImage, match="changed while it was read"):
            read_file(path)
    else:
        assert read_file(path).data == b"changed"


def test_a_file_over_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_read_up_to", lambda *_: pytest.fail("it was read"))
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(513 << 20)
    with pytest.raises(UnreadableImage, match=r"too large: .*LOOKALIKE_MAX_BYTES"):
        read(tmp_path / "huge.jpg")


# Thumbnails


@pytest.mark.parametrize(("size", "expected"), [((640, 480), (100, 75)), ((48, 64), (48, 64)), ((2000, 3), (100, 1))])
def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    small = PIL.Image.open(io.BytesIO(thumbnail(read(photo(*size)), 100)))
    assert (small.format, small.size) == ("JPEG", expected)


def test_no_module_but_jpeg_knows_simplejpeg() -> None:
    source = Path(jpeg.__file__).parents[1]
    users = [path.name for path in source.rglob("*.py") if "import simplejpeg" in path.read_text(encoding="utf-8")]
    assert users == ["jpeg.py"]


@pytest.mark.parametrize("name", ["efficientnet-lite0", "color-histogram"])
def test_the_nine_exif_orientations_of_one_picture_give_one_embedding(name: str) -> None:
    upright = skimage.data.chelsea()
    encoder = registry.encoder(name)
    pictures = []
    for orientation in range(9):  # 0 is invalid, and leaves the picture as it is
        stored = PIL.Image.fromarray(np.ascontiguousarray(TURNS.get(orientation, np.asarray)(upright)))
        data = with_exif(stored, "JPEG", {0x0112: orientation}, quality=95)
        pictures.append(read_bytes(data, at_least=encoder.at_least))
    vectors = encoder.encode(pictures).vectors.astype(np.float64)
    assert (vectors @ vectors.T).min() > 0.99
