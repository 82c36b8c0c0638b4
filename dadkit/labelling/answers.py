"""Whatever gives maps for images: a teacher, or the files that another tool has written."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dadkit.data.depth_files import SUFFIXES, own_space, read_depth
from dadkit.data.folders import stem
from dadkit.data.images import decode
from dadkit.data.views import resized
from dadkit.errors import DataError, SampleError
from dadkit.interfaces import FrozenTeacher, ImageNetwork, Prediction, Teacher, resize_camera
from dadkit.interfaces.resizing import resize
from dadkit.labelling.plan import IMPORT, PlanError, Settings, weights_hash
from dadkit.loading import load_model, pick_device, set_precision
from dadkit.spaces import Space
from dadkit.weights.sources import noted_files

__all__ = ["Answers", "load_answers"]

_DECODING = ("min_size", "max_pixels", "min_side", "bits")
_BY_ENDING: dict[str, Any] = {".png": "png16", ".npy": "npy", ".npz": "npz"}
_JPEG = b"\xff\xd8\xff"
_SPARE = 2.0  # how much larger than what teachers see an image is decoded


class Answers(Protocol):
    """Gives maps.

    Attributes:
        about: name, space, licence and sha256 of the weights, as text.
        takes_camera, needs_camera: whether it does better with cameras, and whether it has no answer without one.
    """

    about: Mapping[str, str]
    takes_camera: bool
    needs_camera: bool

    def sees(self, height: int, width: int) -> tuple[int, int] | None:
        """Returns the (height, width) at which an image is seen; None: every pixel of it is, or none."""
        ...

    def prepare(self, key: str, image: Tensor) -> Tensor:
        """Returns what :meth:`ask` needs of one image (3, H, W) uint8; called by several threads at once."""
        ...

    def ask(self, prepared: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Returns the maps of several prepared images of one shape, on the CPU.

        ``cameras``, (B, 3, 3), are those of the images if each were 1 wide and 1 high; NaN or None = unknown.
        """
        ...

    def ask_patches(self, patches: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Returns the maps of patches (N, 3, p, p) uint8, seen as they are, on the CPU; cameras as in :meth:`ask`."""
        ...


class TeacherAnswers:
    """A teacher's maps, at the size that its network sees.

    Args:
        name, options: of the model, as `dadkit predict --model` takes them.
        size: (height, width) of the view that the teacher sees, as the context ``whole`` cuts it; None: its own policy.
        precision, device: see :mod:`dadkit.loading`.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], size: tuple[int, int] | None, precision: str, device: str
    ) -> None:
        with noted_files() as files:
            model = set_precision(load_model(name, **options), precision).to(pick_device(device))
        self._model = model if isinstance(model, Teacher) else FrozenTeacher(model)
        self._model.freeze()
        self._size, self.multiple = size, model.spec.size_multiple
        self.takes_camera, self.needs_camera = model.spec.takes_camera, model.needs_camera
        self._device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.about: Mapping[str, str] = {
            "name": name,
            "space": str(model.spec.space),
            "license": str(model.spec.license),
            "sha256": weights_hash(model, files.values()),
        }
        # Convolutions on a CPU are a fifth faster where the channels of a pixel are neighbours (starter/small).
        self._last = self._device.type == "cpu"
        if self._last:
            _lay_out(model, torch.channels_last)
            if torch.get_num_threads() == 1:
                _dilate_pointwise(model)

    def sees(self, height: int, width: int) -> tuple[int, int] | None:
        """See :class:`Answers`."""
        return self._size or self._model.seen_size(height, width)

    def prepare(self, key: str, image: Tensor) -> Tensor:
        """See :class:`Answers`."""
        if self._size is not None:
            height, width = image.shape[-2:]
            return resized(image, (0, 0, width, height), self._size)
        seen = self._model.seen_size(image.shape[-2], image.shape[-1])
        if seen is None:  # a model with a policy of its own gets the image as it is
            return image
        return resize(image[None].float().div_(255), seen, self._model.spec.native)[0]

    def ask(self, prepared: Tensor, cameras: Tensor | None = None) -> Prediction:
        """See :class:`Answers`."""
        return self._answer(prepared, cameras, self.sees(prepared.shape[-2], prepared.shape[-1]) is None)

    def ask_patches(self, patches: Tensor, cameras: Tensor | None = None) -> Prediction:
        """See :class:`Answers`."""
        return self._answer(patches, cameras, False)

    def _answer(self, prepared: Tensor, unit: Tensor | None, own: bool) -> Prediction:
        images = prepared.to(self._device)
        cameras = None
        if self.takes_camera:
            unit = torch.full((len(images), 3, 3), torch.nan) if unit is None else unit
            cameras = resize_camera(unit, (1, 1), images.shape[-2:]).to(self._device)
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        try:
            answer = self._forward(images, cameras, own)
        except RuntimeError:
            if not self._last:
                raise
            self._last = False  # a network that cannot take this layout: .view() of a map, say
            _lay_out(self._model, torch.contiguous_format)
            for module in self._model.modules():
                if isinstance(module, ImageNetwork):
                    module.channels_last = False
            answer = self._forward(images, cameras, own)
        # Of a model that is given cameras and answers with none, those: students of metres need them too.
        known = cameras if answer.intrinsics is None else answer.intrinsics
        return Prediction(
            answer.depth.cpu(),
            answer.space,
            None if answer.valid is None else answer.valid.cpu(),
            intrinsics=None if known is None else known.cpu(),
            sky=None if answer.sky is None else answer.sky.cpu(),
        )

    def _forward(self, images: Tensor, cameras: Tensor | None, own: bool) -> Prediction:
        given = () if cameras is None else (cameras,)
        with torch.inference_mode():
            return self._model.predict_batch(images, *given) if own else self._model(images, *given)


def _lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def _dilate_pointwise(model: nn.Module) -> None:
    """Send 1 x 1 convolutions of float32 to oneDNN, also from one thread.

    With one thread PyTorch computes them by a matrix product of its own, which is slower, unless they have a stride or a
    dilation (``ConvParams::use_mkldnn``). A kernel of one pixel has nothing to dilate, so answers are equal up to rounding.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.weight.dtype == torch.float32:
            module.dilation = (2, 2)


class _PairIndex:
    """ZipDepth's index: a JSON file with ``samples``, each with ``rgb`` and ``depth``, or the arrays of bytes made of it.

    For ``NAME.json`` the arrays are ``NAME_rgb.npy`` and ``NAME_depth.npy``. Of each image a hash is kept in memory, 16 bytes.

    Args:
        file: the JSON file, which need not be there if the arrays are.

    Raises:
        DataError: neither is there, or they are no such index.
    """

    def __init__(self, file: Path) -> None:
        arrays = [file.with_name(f"{file.stem}_{kind}.npy") for kind in ("rgb", "depth")]
        try:
            if arrays[0].is_file():
                self._images, self._depths = (np.load(array, mmap_mode="r") for array in arrays)
            else:
                samples = json.loads(file.read_bytes())["samples"]
                self._images = np.array([sample["rgb"] for sample in samples])
                self._depths = np.array([sample.get("depth") or "" for sample in samples])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"no index of images and maps: {file} ({error}); it is a JSON file with samples") from error
        hashes = np.array([self._hash(stem(_text(path))) for path in self._images], np.uint64)
        self._order = np.argsort(hashes)
        self._hashes = hashes[self._order]

    @staticmethod
    def _hash(path: str) -> int:
        return int.from_bytes(hashlib.blake2b(os.path.normpath(path).encode(), digest_size=8).digest(), "little")

    def find(self, image: Path) -> Path:
        """Returns the map of an image, given without its ending. Raises :class:`SampleError` if there is none."""
        wanted = np.uint64(self._hash(str(image.absolute())))
        place = int(np.searchsorted(self._hashes, wanted))
        if place == len(self._hashes) or self._hashes[place] != wanted:
            raise SampleError(f"the index names no map of {image.absolute()}")
        return Path(_text(self._depths[self._order[place]]))


def _text(stored: Any) -> str:
    return stored.decode() if isinstance(stored, bytes) else str(stored)


class ImportedAnswers:
    """Maps of other tools: ``import:root=FOLDER,encoding=png16|npy|npz|pfm,space=…``, one file ``KEY + ending`` an image.

    The folder of `dadkit predict` and the label folders of Ultralytics (16-bit millimetres, ``scale=0.001``) import so.
    ZipDepth's index does by ``import:index=FILE.json,root=FOLDER,space=disparity``, where FOLDER is the ``data.root`` of its
    images. Negative numbers, NaN and infinity are invalid; 0 is too in metres.

    Args:
        root: the folder; with ``index`` that of the images.
        encoding: see :func:`dadkit.data.depth_files.read_depth`.
        space: what the numbers mean.
        scale: stored number * scale = value.
        ending: of the file names; None: the encoding's, ``.png`` or ``.npy``.
        license: terms of the labels.
        index: a file that says which map belongs to which image, see :class:`_PairIndex`; endings tell the maps' encoding.
    """

    takes_camera = needs_camera = False

    def __init__(
        self,
        root: str,
        encoding: Any = None,
        space: str = "disparity",
        scale: float = 1.0,
        ending: str | None = None,
        license: str = "unknown",
        index: str | None = None,
    ) -> None:
        if encoding not in SUFFIXES and (index is None or encoding is not None):
            raise DataError(f"unknown depth encoding {encoding!r}; known are {', '.join(SUFFIXES)}")
        self._root, self._encoding, self._scale, self._space = Path(root).expanduser(), encoding, float(scale), Space(space)
        self._endings = SUFFIXES.get(encoding, ()) if ending is None else (ending,)
        self._index = None if index is None else _PairIndex(Path(index).expanduser())
        if not self._root.is_dir():
            raise DataError(f"no labels to import: {self._root.absolute()} is no folder")
        said = f"{encoding} {scale}".encode()
        self.about: Mapping[str, str] = {
            "name": IMPORT,
            "space": str(self._space),
            "license": license,
            "sha256": hashlib.sha256(said).hexdigest(),
        }

    def sees(self, height: int, width: int) -> tuple[int, int] | None:
        """See :class:`Answers`."""
        return None

    def prepare(self, key: str, image: Tensor) -> Tensor:
        """See :class:`Answers`."""
        if self._index is None:
            files = [self._root / (key + ending) for ending in self._endings]
            file, encoding = next((file for file in files if file.is_file()), files[0]), self._encoding
        else:
            file = self._index.find(self._root / key)
            encoding = _BY_ENDING.get(file.suffix)
        try:
            stored = read_depth(file, encoding)
        except SampleError as error:
            raise SampleError(f"{file}: {error}") from error
        if encoding == "png16" and own_space(file) not in (None, str(self._space)):
            raise SampleError(f"{file} is in space '{own_space(file)}', not '{self._space}'")
        values = stored * self._scale
        with np.errstate(invalid="ignore"):
            known = np.isfinite(values) & (values > 0 if self._space is Space.METRIC else values >= 0)
        return torch.from_numpy(np.where(known, values, np.nan).astype(np.float32))[None]

    def ask(self, prepared: Tensor, cameras: Tensor | None = None) -> Prediction:
        """See :class:`Answers`."""
        return Prediction(prepared.nan_to_num(0), self._space, ~prepared.isnan())

    def ask_patches(self, patches: Tensor, cameras: Tensor | None = None) -> Prediction:
        """There are none: :meth:`Settings.check` refuses them."""
        raise PlanError("labels of other tools have no patches")


def load_answers(settings: Settings, device: str) -> list[Answers]:
    """Returns the teachers, or imports, of a plan's settings.

    Raises:
        PlanError: a teacher cannot take patches of the wished size.
    """
    found: list[Answers] = []
    for one in settings.teachers:
        if one["name"] == IMPORT:
            found.append(ImportedAnswers(**one["options"]))
            continue
        teacher = TeacherAnswers(one["name"], one["options"], settings.size, settings.precision, device)
        if settings.views == "patches" and settings.patch_size % teacher.multiple:
            raise PlanError(
                f"--patch-size must be a multiple of {teacher.multiple} for {one['name']}, got {settings.patch_size}"
            )
        found.append(teacher)
    return found


def read_image(data: bytes, options: Mapping[str, Any], teachers: Sequence[Answers] = ()) -> tuple[Tensor, tuple[int, int]]:
    """Returns a decoded image (3, H, W) uint8, and the whole (height, width).

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that is at least twice what every teacher sees of it: the rest would
    be thrown away by the teacher's own resizing. An explicit ``min_side`` decides instead.

    Args:
        data: the file.
        options: those of :class:`dadkit.data.Images`.
        teachers: who will see it.

    Raises:
        SampleError: the image cannot be read.
    """
    given = {"min_size": 64, **{name: options[name] for name in _DECODING if name in options}}
    whole: tuple[int, int] | None = None

    def needed(height: int, width: int) -> int | None:
        nonlocal whole
        whole = height, width
        seen = [teacher.sees(height, width) for teacher in teachers]
        if None in seen or not seen:
            return None
        share = _SPARE * max(max(one[0] / height, one[1] / width) for one in seen if one)
        return math.ceil(share * min(height, width))

    if given.get("min_side") is None and data.startswith(_JPEG):
        given["min_side"] = needed
    image = decode(data, **given)
    return image, whole or (image.shape[-2], image.shape[-1])
