"""What datasets yield, and what the training step receives.

The way of the data: a dataset yields a :class:`Sample` (one decoded image, perhaps with true depth); a context sampler
says where to look; ``dadkit.data.views`` cuts the views; the loader stacks them into a :class:`Batch`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from dadkit.interfaces import Hints
from dadkit.spaces import Space

__all__ = ["Batch", "Dataset", "Sample"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image, perhaps with its true depth.

    Attributes:
        image: (3, H, W) uint8 RGB, upright (EXIF orientation applied).
        key: unique, stable name: the path relative to the dataset's root without extension, or an index.
        depth: (1, H, W) float32 in ``space``; None for unlabelled images. Infinity means sky (valid, infinitely far).
        valid: (1, H, W) bool, True where depth is known; None means everywhere. None if ``depth`` is None.
        space: the space of ``depth``; None if ``depth`` is None.
        intrinsics: (3, 3) float32 camera matrix in pixels (pixel centres at half integers), or None.
        scaled: True if ``depth`` covers the image, or ``part`` of it, at another size, (1, h, w), as a teacher's map does.
        part: the box x0, y0, x1, y1 of the image, in pixels, that ``depth`` covers, as the map of a patch does; None: all of
            it. Regions are then cut so that they hold the box.
        camera_from: where ``intrinsics`` come from: ``"data"``, the dataset itself; ``"exif"``, the photograph's EXIF data.
        hints: sparse metres of batch size 1 that come with the image, for depth completion; None = there are none.
    """

    image: Tensor
    key: str
    depth: Tensor | None = None
    valid: Tensor | None = None
    space: Space | None = None
    intrinsics: Tensor | None = None
    scaled: bool = False
    part: tuple[int, int, int, int] | None = None
    camera_from: Literal["data", "exif"] = "data"
    hints: Hints | None = None


@runtime_checkable
class Dataset(Protocol):
    """A map-style dataset: ``len(dataset)`` samples, ``dataset[i]`` is the same :class:`Sample` every time.

    ``dataset[i]`` raises :class:`SampleError` for an item that cannot be read; anything else it raises ends the run.
    A dataset survives ``pickle``, since loader workers get a copy.

    A class with the attribute ``answered = True`` says that its depth is what a teacher answered for the image. Its maps serve
    in the teachers' place under ``data.unlabelled`` of a stage without teachers.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples cut to views; everything is on one device.

    Attributes:
        keys: the samples' keys, B of them.
        images: (B, 3, v, v) uint8: the region as the teacher sees it (clean pixels).
        student_images: (B, 3, v, v) uint8: the region as the student sees it; the same tensor if nothing is perturbed.
        patches: (B, N, 3, p, p) uint8: native-detail patches for the teacher; N may be 0.
        boxes: (B, N, 4) float32: the patches in fractional pixels of the student's view, x0, y0, x1, y1.
        depth: (B, 1, v, v) float32 in ``space``, or None for unlabelled batches.
        valid: (B, 1, v, v) bool, or None with ``depth``.
        space: the space of ``depth``.
        intrinsics: (B, 3, 3) float32 camera matrices in pixels of the view; NaN where an image's camera is not known, None if
            none is.
        frames: (B, 3, 3) float32: from places in the whole image (its centre 0, its longer side from -1 to 1) to pixels of the
            view, so that a field of view assumed of images means the same in every crop; None if nobody knows them.
        pasted: (B, 4) int64: the rectangle x0, y0, x1, y1 of ``student_images`` that is another image's (see
            :mod:`dadkit.data.perturbations`), without area where there is none; None if the batch is not mixed.
    """

    keys: tuple[str, ...]
    images: Tensor
    student_images: Tensor
    patches: Tensor
    boxes: Tensor
    depth: Tensor | None = None
    valid: Tensor | None = None
    space: Space | None = None
    intrinsics: Tensor | None = None
    pasted: Tensor | None = None
    frames: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def cameras(self) -> Tensor:
        """(B, 3, 3): the cameras in pixels of the view; NaN where none is known."""
        return self.boxes.new_full((len(self), 3, 3), torch.nan) if self.intrinsics is None else self.intrinsics

    def patch_cameras(self) -> Tensor | None:
        """(B, N, 3, 3): the cameras in pixels of the patches, NaN where none is known; None if there are no patches."""
        if self.patches.shape[1] == 0:
            return None
        corner, size = self.boxes[..., :2], self.boxes[..., 2:] - self.boxes[..., :2]
        cameras = self.cameras()[:, None].repeat(1, self.boxes.shape[1], 1, 1)
        cameras[..., :2, 2] -= corner
        cameras[..., :2, :] *= (self.patches.shape[-1] / size)[..., None]
        return cameras

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of every tensor that is there."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                yield item.name, value

    def to(self, device: torch.device, *, non_blocking: bool = True) -> Batch:
        """Returns the batch on ``device``; ``student_images`` stays shared with ``images`` where it was.

        ``pasted`` stays on the host, where it decides what is compared with what.
        """
        moved: dict[str, Any] = {
            name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self.tensors() if name != "pasted"
        }
        if self.student_images is self.images:
            moved["student_images"] = moved["images"]
        return replace(self, **moved)
