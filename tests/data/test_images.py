"""Every trap that an image file may hold, written by the tests themselves."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from dadkit.data.images import decode, to_tensor
from dadkit.errors import DataError, SampleError


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(tensor: torch.Tensor) -> np.ndarray:
    assert tensor.dtype == torch.uint8
    return tensor.permute(1, 2, 0).numpy()


def bomb_png(width: int, height: int) -> bytes:
    """A PNG whose header promises width x height pixels; its data are a few bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def test_rgb_is_read_exactly_from_path_bytes_and_file(tmp_path: Path, picture) -> None:
    array = picture(31, 47)
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    for source in (path, str(path), path.read_bytes(), path.open("rb")):
        found = decode(source)
        assert found.shape == (3, 31, 47)
        np.testing.assert_array_equal(pixels(found), array)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, picture) -> None:
    upright = picture(40, 60)
    # What a camera held so stores, from the definition of the tag: the place of the stored row 0 and column 0.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(decode(data)), upright)
    np.testing.assert_array_equal(pixels(decode(data, upright=False)), stored)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once_in_every_format(kind: str, picture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(picture(40, 60)), kind, exif=exif)
    assert decode(data).shape == (3, 60, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_leaves_the_photograph_as_it_is_stored(picture) -> None:
    data = encoded(Image.fromarray(picture(40, 60)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert decode(data).shape == (3, 40, 60)


def test_sixteen_bit_greyscale_is_scaled_not_clipped() -> None:
    levels = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16).repeat(4, axis=0)
    for kind in ("PNG", "TIFF"):
        found = pixels(decode(encoded(Image.fromarray(levels), kind)))
        assert found[0, :, 0].tolist() == [0, 0, 1, 128, 255]  # round(level / 257)
        assert (found == found[..., :1]).all()


def test_integer_images_without_a_known_scale_are_refused() -> None:
    inside = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
    assert pixels(decode(encoded(inside, "TIFF")))[0, :, 0].tolist() == [0, 255]
    with pytest.raises(SampleError, match="0 to 70000: no known scale"):
        decode(encoded(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), "TIFF"))


def test_float_images_must_lie_in_the_unit_range() -> None:
    good = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert pixels(decode(encoded(good, "TIFF")))[0, :, 0].tolist() == [0, 128, 255]
    for bad in ([[0.0, 2.0]], [[0.0, float("nan")]]):
        with pytest.raises(SampleError, match="only \\[0, 1\\]"):
            decode(encoded(Image.fromarray(np.array(bad, dtype=np.float32)), "TIFF"))


def test_alpha_is_laid_over_mid_grey(picture) -> None:
    colours = picture(8, 8)
    alpha = np.full((8, 8, 1), 255, dtype=np.uint8)
    alpha[:, :4] = 0
    found = pixels(decode(encoded(Image.fromarray(np.concatenate([colours, alpha], axis=2)))))
    np.testing.assert_array_equal(found[:, 4:], colours[:, 4:])
    assert (found[:, :4] == 128).all()
    half = np.full((2, 2, 4), (255, 0, 0, 51), dtype=np.uint8)  # 1/5 red over 4/5 grey
    assert pixels(decode(encoded(Image.fromarray(half))))[0, 0].tolist() == pytest.approx([153, 102, 102], abs=1)


def test_greyscale_with_alpha_and_palette_transparency() -> None:
    grey = np.dstack([np.full((4, 4), 200, np.uint8), np.array([[0, 255, 255, 255]] * 4, np.uint8)])
    found = pixels(decode(encoded(Image.fromarray(grey, "LA"))))
    assert found[0].tolist() == [[128] * 3, [200] * 3, [200] * 3, [200] * 3]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    assert pixels(decode(encoded(palette)))[0, 0].tolist() == [200, 100, 50]
    assert pixels(decode(encoded(palette, transparency=1)))[0, 0].tolist() == [128] * 3


@pytest.mark.parametrize(("mode", "expected"), [("L", [90] * 3), ("1", [255] * 3), ("CMYK", [90] * 3), ("YCbCr", [90] * 3)])
def test_other_colour_models_become_rgb(mode: str, expected: list[int]) -> None:
    image = Image.new("RGB", (16, 16), (90, 90, 90)).convert("L" if mode == "1" else mode)
    if mode == "1":
        image = image.point(lambda v: 255 if v > 10 else 0).convert("1")
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    found = pixels(decode(encoded(image, kind)))
    assert found.shape == (16, 16, 3)
    assert found[8, 8].tolist() == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), (level, level, level)) for level in (240, 10)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert pixels(decode(data))[8, 8].tolist() == pytest.approx([240] * 3, abs=2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_files_are_refused_even_if_pillow_was_told_to_be_lenient(kind: str, monkeypatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    decode(data)
    for lenient in (False, True):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
        with pytest.raises(SampleError):
            decode(data[: len(data) // 2])
        assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (b"\n <html>", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 80, "HEIC"),
        (b"hello, world", "no image that Pillow can read"),
        (b"\xff\xd8\xff\xe0 not a jpeg", "cannot be decoded|no image"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(SampleError, match=reason):
            decode(source)


def test_missing_files_and_folders_are_sample_errors(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="does not exist"):
        decode(tmp_path / "gone.jpg")
    with pytest.raises(SampleError, match="cannot be opened: Is a directory"):
        decode(tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_sizes_are_checked_before_decoding(picture, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back afterwards
    with pytest.raises(SampleError, match="9000 x 9950 pixels are more than max_pixels = 89478485"):
        decode(bomb_png(9000, 9950))  # its data would make it "truncated", had they been read
    with pytest.raises(SampleError, match=r"larger than Pillow decodes.*--max-megapixels"):
        decode(bomb_png(30000, 30000))
    with pytest.raises(SampleError, match="more than max_pixels = 899999999"):
        decode(bomb_png(30000, 30000), max_pixels=30000 * 30000 - 1)
    with pytest.raises(SampleError, match="cannot be decoded"):  # allowed, and then truncated
        decode(bomb_png(16000, 12500), max_pixels=16000 * 12500)
    data = encoded(Image.fromarray(picture(40, 60)))
    assert decode(data, max_pixels=2400, min_size=40).shape == (3, 40, 60)
    with pytest.raises(SampleError, match="60 x 40 pixels are more than max_pixels = 2399"):
        decode(data, max_pixels=2399)
    with pytest.raises(SampleError, match="shorter than min_size = 41"):
        decode(data, min_size=41)


@pytest.mark.parametrize(("min_side", "short"), [(None, 400), (400, 400), (201, 400), (200, 200), (90, 100), (10, 50)])
def test_min_side_decodes_jpegs_smaller_but_never_below(min_side: int | None, short: int, picture) -> None:
    found = decode(encoded(Image.fromarray(picture(400, 600)), "JPEG"), min_side=min_side)
    assert found.shape == (3, short, short * 3 // 2)


def test_to_tensor_takes_every_kind(tmp_path: Path, picture) -> None:
    array = picture(20, 30)
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    expected = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    grey16 = (array[..., 0].astype(np.uint16)) * 257
    for image in (path, str(path), Image.fromarray(array), array, array / 255, (array / 255).astype(np.float32), expected):
        found = to_tensor(image)
        assert found.dtype == torch.float32
        assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(to_tensor(torch.from_numpy(array).permute(2, 0, 1)), expected)
    assert torch.equal(to_tensor(array[..., 0]), expected[:1].expand(3, -1, -1))
    assert torch.allclose(to_tensor(grey16), expected[:1].expand(3, -1, -1))
    assert torch.equal(to_tensor(array[..., ::-1]), expected.flip(0))  # negative strides, as from OpenCV's BGR
    assert torch.allclose(to_tensor((array / 255).astype(">f4")), expected)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert to_tensor(Image.open(io.BytesIO(encoded(Image.fromarray(array), exif=exif)))).shape == (3, 30, 20)


def test_to_tensor_does_not_share_the_callers_memory(picture) -> None:
    array = picture(20, 30)
    before = array.copy()
    to_tensor(array).zero_()
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"\(H, W, 3\) or \(H, W\), got \(4, 4, 4\)"),
        (np.zeros((3, 4, 5), np.uint8), ValueError, r"tensors are \(3, H, W\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "must be"),
        (np.zeros((4, 4, 3), np.int64), TypeError, "uint8 or floating point"),
        (np.zeros((4, 4, 3), object), TypeError, "object"),
        (np.full((4, 4, 3), 1.5), ValueError, "1.5 to 1.5; divide"),
        (np.full((4, 4, 3), -0.1), ValueError, "divide"),
        (np.full((4, 4, 3), np.nan), ValueError, "NaN"),
        (torch.zeros(4, 5, 3), ValueError, r"must be \(3, H, W\)"),
        (torch.zeros(1, 3, 4, 4), ValueError, r"must be \(3, H, W\)"),
        (torch.full((3, 4, 4), 255.0), ValueError, "255"),
        (torch.zeros(3, 4, 4, dtype=torch.int32), TypeError, "int32"),
        (42, TypeError, "got int"),
        (Image.fromarray(np.full((2, 2), 7.0, np.float32)), ValueError, "mode F"),
    ],
)
def test_to_tensor_says_what_is_wrong(image: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_tensor(image)


def test_to_tensor_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"cannot read .*a\.jpg: the file is a web page"):
        to_tensor(tmp_path / "a.jpg")
