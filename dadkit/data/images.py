"""Decode any image a folder may hold into upright 8-bit RGB, or say why not.

Decoders are generous where training must not be: Pillow ignores the EXIF orientation, ``convert("RGB")`` clips 16-bit
greyscale to white, drops alpha and shows whatever lies under it. Each of these is settled here, once.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from dadkit.data.folders import HEIC
from dadkit.errors import DataError, SampleError
from dadkit.files import really_is

__all__ = ["MAX_PIXELS", "decode", "exif_camera", "exif_focal", "few_levels", "to_tensor"]

MAX_PIXELS = 89_478_485
"""Largest image decoded unless told otherwise: the size from which Pillow itself warns of decompression bombs."""

_FEW_LEVELS = 8
_GREY = 128  # what shows through transparent pixels: neither a bright nor a dark hole

_EXIF, _FOCAL_35 = 0x8769, 0xA405
_FOCAL, _WIDTH, _HEIGHT, _PLANE, _UNIT = 0x920A, 0xA002, 0xA003, 0xA20E, 0xA210
_UNITS = {2: 25.4, 3: 10.0}  # millimetres: inch, centimetre
_CROPPED = 0.01  # aspect ratios that differ by more are not of one picture
_DIAGONAL_35 = math.hypot(36, 24)  # mm
_SHORTEST_35, _LONGEST_35 = 4.0, 5000.0  # mm: no camera takes pictures beyond; some files state 1 or 60000
_ORIENTATION_TAG = 0x0112
_SAMPLE_FORMAT = 339  # of TIFF: 1 unsigned, 2 signed, 3 floating point
# Pillow warns of broken metadata without naming the file. The picture is read all the same.
warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)

_UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ACROSS = (5, 6, 7, 8)  # width becomes height


def decode(
    source: str | Path | bytes | BinaryIO,
    *,
    min_size: int = 1,
    max_pixels: int = MAX_PIXELS,
    min_side: int | Callable[[int, int], int | None] | None = None,
    upright: bool = True,
    bits: int | Literal["percentile"] = 16,
) -> Tensor:
    """Decode an image into upright 8-bit RGB.

    The EXIF orientation is applied; 16-bit greyscale is scaled by 255/65535, or as ``bits`` says; transparent pixels are laid
    over mid grey;
    greyscale is replicated; CMYK, palette and other colour models become RGB (ICC profiles are not applied); of an animation
    the first frame is taken. Sizes are checked in the header, before a pixel is decoded.

    Args:
        source: path, encoded bytes, or binary file at its beginning.
        min_size: shortest allowed side in pixels.
        max_pixels: largest allowed width x height. More than :data:`MAX_PIXELS` raises Pillow's own limit,
            ``Image.MAX_IMAGE_PIXELS``, for the whole process.
        min_side: if given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter side stays at least
            this long. On a 2048 x 1362 photograph this saves about 40 % of the decoding time. None keeps every pixel. A
            function is given the upright (height, width) that the header tells, and returns the side or None.
        upright: apply the EXIF orientation. False keeps the pixels as they are stored, for labels made from them.
        bits: what 16-bit greyscale holds. Cameras of 10, 12 or 14 bits often store their numbers as they are: 12 makes 4095
            white. ``"percentile"`` spreads percentiles 0.1 to 99.9 over the whole range, as thermal cameras need it.

    Returns:
        (3, H, W) uint8, RGB. The memory lies in (H, W, 3) order, which resizing is fastest on.

    Raises:
        SampleError: the file is empty, not an image, truncated, a decompression bomb, too small, a depth map that dadkit wrote,
            or cannot be opened. The message gives the reason and does not name the file, which the caller knows better.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    if max_pixels > MAX_PIXELS and Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
    try:
        with _opened(stream) as image:
            _check_header(image, min_size, max_pixels)
            side = min_side(*_upright_size(image)) if callable(min_side) else min_side
            if side is not None:
                image.draft(None, (side, side))
            _load_whole(image)
            return _to_rgb(_turn_upright(image) if upright else image, bits)
    except (SampleError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise SampleError(_why_no_image(stream)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SampleError(
            f"larger than Pillow decodes; shrink the picture or allow more (max_pixels of a dataset, --max-megapixels of "
            f"`dadkit predict`): {error}"
        ) from error
    except FileNotFoundError as error:
        raise SampleError("the file does not exist") from error
    except OSError as error:
        said = f"opened: {error.strerror}" if error.errno else f"decoded: {error}"  # Pillow's own have no number
        raise SampleError(f"cannot be {said}") from error
    except Exception as error:  # decoders raise whatever their libraries do: struct.error, zlib.error, SyntaxError, …
        raise SampleError(f"cannot be decoded: {error or type(error).__name__}") from error


def _opened(stream: str | Path | BinaryIO) -> Image.Image:
    if HEIC:
        import_module("pillow_heif").register_heif_opener()
    return Image.open(stream)


def few_levels(image: Tensor) -> tuple[int, int] | None:
    """(low, high) grey levels of percentiles 1 and 99 where they are fewer than 8 of 255 apart, else None.

    Args:
        image: (3, H, W) uint8.
    """
    step = max(1, min(image.shape[-2:]) // 128)
    low, high = np.percentile(image[:, ::step, ::step].numpy(), [1, 99])
    return (int(low), int(high)) if high - low < _FEW_LEVELS else None


def _check_header(image: Image.Image, min_size: int, max_pixels: int) -> None:
    if "dadkit:space" in image.info:
        raise SampleError("a depth map that dadkit wrote, not a photograph")
    if image.format == "TIFF" and image.mode == "L" and image.tag_v2.get(_SAMPLE_FORMAT) == (2,):  # type: ignore[attr-defined]
        raise SampleError("a TIFF of signed 8-bit numbers, which have no known scale; store them from 0 to 255")
    width, height = image.size
    if width * height > max_pixels:
        raise SampleError(
            f"{width} x {height} pixels are more than max_pixels = {max_pixels}; shrink the picture or allow more (max_pixels "
            f"of a dataset, --max-megapixels {math.ceil(width * height / 1e6)} of `dadkit predict`)"
        )
    if min(width, height) < min_size:
        raise SampleError(f"{width} x {height} pixels: a side is shorter than min_size = {min_size}")


def _load_whole(image: Image.Image) -> None:
    """Decode, strictly: another library may have told Pillow to fill truncated files with grey."""
    lenient = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _turn_upright(image: Image.Image) -> Image.Image:
    method = _UPRIGHT_BY.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (width, height) if _orientation(image) in _ACROSS else (height, width)


def _orientation(image: Image.Image) -> int:
    try:
        orientation: int = image.getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return 1  # broken metadata does not make a photograph unusable; viewers show it as it is stored
    return orientation


def _to_rgb(image: Image.Image, bits: int | Literal["percentile"] = 16) -> Tensor:
    if image.mode.startswith("I"):
        pixels = _from_integers(np.asarray(image), bits)
    elif image.mode == "F":
        pixels = _from_floats(np.asarray(image))
    elif image.has_transparency_data:
        backdrop = Image.new("RGBA", image.size, (_GREY, _GREY, _GREY, 255))
        pixels = np.array(Image.alpha_composite(backdrop, image.convert("RGBA")).convert("RGB"))
    else:
        pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _from_integers(values: np.ndarray, bits: int | Literal["percentile"]) -> np.ndarray:
    """16-bit greyscale, which some readers hand out as 32-bit integers, to 8 bits."""
    if values.dtype.itemsize > 2 and (values.min() < 0 or values.max() > 65535):
        raise SampleError(f"32-bit integer image with values {values.min()} to {values.max()}: no known scale")
    if bits == "percentile":
        low, high = (float(x) for x in np.percentile(values, [0.1, 99.9]))
        return np.rint(np.clip((values - low) / max(high - low, 1), 0, 1) * 255).astype(np.uint8)
    full = 2**bits - 1
    if values.max() > full:
        raise SampleError(f"values up to {values.max()} do not fit bits = {bits} (0 to {full})")
    return ((values.astype(np.uint32) * 255 + full // 2) // full).astype(np.uint8)


def _from_floats(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 1.0):  # also catches NaN
        raise SampleError(f"floating-point image with values {low:g} to {high:g}: only [0, 1] has a known scale")
    return np.rint(values * 255).astype(np.uint8)


def _why_no_image(stream: str | Path | BinaryIO) -> str:
    if isinstance(stream, str | Path):
        with open(stream, "rb") as handle:
            head = handle.read(64)
    else:
        stream.seek(0)
        head = stream.read(64)
    if (words := really_is(head)) is not None and not words.endswith("image"):
        return f"the file is {words}"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "a HEIC image, which needs pip install 'dadkit[heic]', or a conversion to JPEG or PNG"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "a TIFF of a kind that Pillow cannot read, such as 16-bit floats or five channels; convert it"
    return f"no image that Pillow can read; it begins with {head[:12]!r}"


def to_tensor(image: str | Path | Image.Image | np.ndarray | Tensor) -> Tensor:
    """Returns one image of any common kind as float RGB.

    Args:
        image: a path; a PIL image (decoded as :func:`decode` does); an array (H, W, 3) or (H, W), uint8, uint16 or floating
            point in [0, 1]; or a tensor (3, H, W), uint8 or floating point in [0, 1].

    Returns:
        (3, H, W) float32 in [0, 1]; a tensor's device is kept.

    Raises:
        DataError: the path cannot be read as an image; the message names it.
        TypeError: not an image, or a dtype without a known scale.
        ValueError: wrong shape; values outside [0, 1] or NaN; a PIL image without a known scale.
    """
    if isinstance(image, str | Path):
        try:
            return decode(image).float().div_(255)
        except SampleError as error:
            raise DataError(f"cannot read {image}: {error}") from error
    if isinstance(image, Image.Image):
        try:
            _load_whole(image)
            return _to_rgb(_turn_upright(image)).float() / 255
        except (SampleError, OSError) as error:
            raise ValueError(f"the PIL image (mode {image.mode}, size {image.size}) cannot be used: {error}") from error
    if isinstance(image, np.ndarray):
        return _unit_range(_array_to_chw(image))
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(f"a tensor image must be (3, H, W), got {tuple(image.shape)}; arrays are (H, W, 3)")
        return _unit_range(image)
    raise TypeError(f"an image is a path, PIL image, array or tensor, got {type(image).__qualname__}")


def _array_to_chw(array: np.ndarray) -> Tensor:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise ValueError(f"an array image must be (H, W, 3) or (H, W), got {array.shape}; tensors are (3, H, W)")
    if array.dtype == np.uint16:
        array = array.astype(np.float32) / 65535
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    try:  # a copy: the caller's array may be read-only, reversed (BGR[..., ::-1]) or in the other byte order
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="))).permute(2, 0, 1)
    except TypeError as error:
        raise TypeError(f"an array image must be uint8, uint16 or floating point, got {array.dtype}") from error


def _unit_range(image: Tensor) -> Tensor:
    if image.dtype == torch.uint8:
        return image.float().div_(255)
    if not image.is_floating_point():
        raise TypeError(f"an image must be uint8 or floating point in [0, 1], got {image.dtype}")
    low, high = (float(x) for x in image.aminmax())
    if not (low >= 0.0 and high <= 1.0):  # NaN compares false
        hint = "it holds NaN" if low != low or high != high else f"its values are {low:g} to {high:g}; divide by its full scale"
        raise ValueError(f"a floating-point image must be in [0, 1], but {hint}")
    return image.float()


def exif_focal(file: Path | bytes, size: tuple[int, int]) -> float | None:
    """Returns the focal length in pixels of a photograph by its EXIF data; None if they do not tell.

    The 35-mm equivalent is taken first; it compares diagonals, and that of 35-mm film is 43.27 mm. Cameras with lenses that
    change mostly state the focal length in mm and the sensor's pixels to an inch or a centimetre, which is taken where the
    picture has the shape that the camera recorded. Neither is taken where no camera has such a lens: below 4 mm and above 5 m.

    Args:
        file: a picture.
        size: (height, width) of the picture in pixels.
    """
    try:
        with Image.open(file if isinstance(file, Path) else io.BytesIO(file)) as picture:
            if picture.format == "PNG" and not picture.info.keys() & {"exif", "Raw profile type exif"}:
                return None  # Pillow would decode all pixels to look for metadata behind them
            told = picture.getexif().get_ifd(_EXIF)
        equivalent = float(told.get(_FOCAL_35) or 0)
        if _SHORTEST_35 <= equivalent <= _LONGEST_35:
            return equivalent / _DIAGONAL_35 * math.hypot(*size)
        focal, across, down, plane = (float(told.get(tag) or 0) for tag in (_FOCAL, _WIDTH, _HEIGHT, _PLANE))
        pixels = focal * plane / _UNITS[told.get(_UNIT, 2)]  # of the picture as it was recorded
        longer, shorter = max(across, down), min(across, down)
        if abs(longer / shorter * min(size) / max(size) - 1) > _CROPPED:
            return None
        pixels *= max(size) / longer
        return pixels if _SHORTEST_35 <= pixels / math.hypot(*size) * _DIAGONAL_35 <= _LONGEST_35 else None
    except Exception:  # broken metadata raise whatever they like, and state no focal length
        return None


def exif_camera(file: Path | bytes, size: tuple[int, int]) -> Tensor | None:
    """(3, 3): the camera of a photograph of ``size`` (height, width) by :func:`exif_focal`, its axis in the middle; or None."""
    focal, (height, width) = exif_focal(file, size), size
    return None if focal is None else torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
