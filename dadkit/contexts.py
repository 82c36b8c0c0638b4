"""Context samplers: where student and teacher look in one image.

Boxes only, no pixels; see :class:`dadkit.interfaces.Contexts`. Randomness comes from the given generator alone.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from dadkit.interfaces import Contexts

__all__ = ["LocalGlobal", "Shared", "Whole"]


class Whole:
    """Student and teacher see the whole image, resized to one size; no patches.

    Batches are stacked, so all views share one size and an image of another shape is stretched: a 3:2 photograph becomes a
    square, as in the paper's row without crops (Distill Any Depth, Table 2, "neither"). Give ``[height, width]`` if your
    images share another aspect ratio. Nothing is random.

    Args:
        view_size: side of the square view, or (height, width), in pixels. 560: Distill Any Depth, section 4.1.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, view_size: int | tuple[int, int] = 560) -> None:
        height, width = (view_size, view_size) if isinstance(view_size, int) else view_size
        if height < 1 or width < 1:
            raise ValueError(f"view_size is one side or (height, width) in pixels, at least 1; got {view_size}")
        self.view_size = (height, width)

    def __call__(self, size: tuple[int, int], generator: torch.Generator) -> Contexts:
        """Returns the contexts of an image of ``size`` = (height, width); ``generator`` is not used."""
        height, width = size
        region = torch.tensor([0, 0, width, height], dtype=torch.float64)
        return Contexts(region, self.view_size, torch.zeros(0, 4, dtype=torch.float64), self.view_size)


class Shared:
    """One random square, seen by student and teacher at one size; no patches (Distill Any Depth, section 3.2 and 4.1).

    The side is uniform in [crop_min, shortest side of the image]; an image with a smaller shortest side S gives side S.

    Args:
        view_size: side in pixels at which both see the region. 560: the paper, 4.1.
        crop_min: smallest side of a region, in pixels of the image. 644: the paper, 4.1.
        crop_max: largest side of a region; None is the image's shortest side, as in the paper.

    Raises:
        ValueError: a size below 1, or crop_max < crop_min.
    """

    def __init__(self, view_size: int = 560, crop_min: int = 644, crop_max: int | None = None) -> None:
        _check_sides(view_size, crop_min, crop_max)
        self.view_size, self.crop_min, self.crop_max = view_size, crop_min, crop_max

    def __call__(self, size: tuple[int, int], generator: torch.Generator) -> Contexts:
        """Draw contexts for an image of ``size`` = (height, width)."""
        view = (self.view_size, self.view_size)
        region = _draw_region(size, self.crop_min, self.crop_max, generator)
        return Contexts(region, view, torch.zeros(0, 4, dtype=torch.float64), view)


class LocalGlobal:
    """One random square for student and teacher, and ``n`` patches of it at native detail for the teacher.

    The region is drawn as by :class:`~dadkit.contexts.Shared`. Let L be its side. A patch is a square of
    ``patch_size`` native pixels if L >= ``crop_min``; smaller regions have patches scaled with them, side
    round(L * patch_size / crop_min), shown to the teacher at ``patch_size``.

    ``layout="cover"``: the patches are cells of a grid that covers the region, k x k with
    k = max(2, ceil((L - overlap) / (patch_size - overlap))) (more if ``n`` needs it); neighbours share at least ``overlap``
    pixels; inner cells are jittered. ``n`` cells are drawn without replacement, or ``"all"`` are taken. Every image of a run
    must give equally many patches, so with ``"all"`` regions are limited to what one grid covers: ``crop_max``, by default
    2 patch_size - overlap, covered by 2 x 2. ``layout="random"``: ``n`` independent uniform places.

    Both terms of the loss share the region, and the student sees it once. The paper leaves this open; its text says that the
    global region is cropped into overlapping patches.

    Args:
        view_size: side in pixels at which the region is seen. 560: Distill Any Depth, section 4.1.
        crop_min: smallest side of a region, in pixels of the image. 644: the paper, 4.1.
        crop_max: largest side of a region; None is the image's shortest side (the paper), or the limit above for ``"all"``.
        patch_size: side in pixels of a patch, in the image and for the teacher. 560: the paper, 4.1.
        n: patches per image, or ``"all"``. 4: not from the paper.
        layout: ``"cover"`` or ``"random"``. Not from the paper.
        overlap: pixels shared by neighbouring cells, scaled with small regions (rounded down). 56: not from the paper.

    Raises:
        ValueError: a size that cannot work; among them those under which the student's map would be sampled with more than 2 x
            minification, which ``local_global_loss`` refuses: a patch may fill at most 2 * patch_size pixels of the view.
    """

    def __init__(
        self,
        view_size: int = 560,
        crop_min: int = 644,
        crop_max: int | None = None,
        patch_size: int = 560,
        n: int | Literal["all"] = 4,
        layout: Literal["cover", "random"] = "cover",
        overlap: int = 56,
    ) -> None:
        _check_sides(view_size, crop_min, crop_max)
        self.view_size, self.crop_min, self.crop_max = view_size, crop_min, crop_max
        self.patch_size, self.n, self.layout, self.overlap = patch_size, n, layout, overlap
        self._check_patches()
        if n == "all":
            self.crop_max = crop_max or max(crop_min, 2 * patch_size - overlap)
            self._cells = cells_needed(self.crop_max, patch_size, overlap)
        else:
            self._cells = max(2, math.isqrt(n - 1) + 1)  # k x k cells hold n
        self._smallest = min(_SMALLEST_REGION, crop_min)
        self._check_minification()

    @property
    def count(self) -> int:
        """Number of patches per image."""
        return self._cells**2 if self.n == "all" else self.n

    def __call__(self, size: tuple[int, int], generator: torch.Generator) -> Contexts:
        """Draw contexts for an image of ``size`` = (height, width).

        Raises:
            ValueError: a side of the image is below 16 pixels (below ``crop_min`` if that is smaller).
        """
        if min(size) < self._smallest:
            raise ValueError(
                f"an image of {size[1]} x {size[0]} pixels is too small for patches: give at least {self._smallest}"
            )
        region = _draw_region(size, self.crop_min, self.crop_max, generator)
        length = int(region[2] - region[0])
        corners = self._random(length, generator) if self.layout == "random" else self._cover(length, generator)
        patches = torch.cat([corners, corners + self._side(length)], dim=1)
        return Contexts(region, (self.view_size, self.view_size), patches, (self.patch_size, self.patch_size))

    def _cover(self, length: int, generator: torch.Generator) -> Tensor:
        """(n, 2) upper left corners of the cells drawn."""
        cells = self._cells_at(length)
        side, overlap = self._side(length), self._overlap(length)
        xs, ys = (cover(length, side, overlap, cells, generator) for _ in range(2))
        corners = torch.cartesian_prod(ys, xs).flip(1)  # row by row, (x, y)
        if self.n == "all":
            return corners
        return corners[torch.randperm(cells**2, generator=generator)[: self.n]]

    def _random(self, length: int, generator: torch.Generator) -> Tensor:
        room = length - self._side(length)
        places = [_draw_integer(0, room, generator) for _ in range(2 * self.count)]
        return torch.tensor(places, dtype=torch.float64).view(-1, 2)

    def _cells_at(self, length: int) -> int:
        # Small regions have a scaled copy of the grid of crop_min, so that rounding cannot add a cell.
        return max(self._cells, cells_needed(max(length, self.crop_min), self.patch_size, self.overlap))

    def _overlap(self, length: int) -> int:
        return self.overlap if length >= self.crop_min else self.overlap * length // self.crop_min

    def _side(self, length: int) -> int:
        """Side of a patch in pixels of the image."""
        if length >= self.crop_min:
            return self.patch_size
        side = round(length * self.patch_size / self.crop_min)
        cells = self._cells_at(length)
        covering = math.ceil((length + (cells - 1) * self._overlap(length)) / cells)
        return max(side, covering)  # at most a pixel more, where rounding down would leave a gap

    def _check_patches(self) -> None:
        if self.patch_size < 1 or self.patch_size > self.crop_min:
            raise ValueError(
                f"patch_size must be 1 to crop_min = {self.crop_min}, since patches are parts of regions; got {self.patch_size}"
            )
        if not 0 <= self.overlap < self.patch_size:
            raise ValueError(f"overlap must be 0 to patch_size - 1 = {self.patch_size - 1}, got {self.overlap}")
        if self.n != "all" and (not isinstance(self.n, int) or self.n < 1):
            raise ValueError(f"n must be a positive number of patches or 'all', got {self.n!r}")
        if self.layout not in ("cover", "random"):
            raise ValueError(f"layout must be 'cover' or 'random', got {self.layout!r}")
        if self.layout == "random" and self.n == "all":
            raise ValueError("layout 'random' needs a number n: only a grid has a last patch")

    def _check_minification(self) -> None:
        for length in range(self._smallest, self.crop_min + 1):  # above crop_min a patch fills ever less of the view
            box = self._side(length) * self.view_size / length
            if box > 2 * self.patch_size - 1e-3:  # the loss sees boxes rounded to float32
                raise ValueError(
                    f"a patch of a region of side {length} fills {box:.0f} pixels of the view, more than twice the "
                    f"patch_size of {self.patch_size}: sampled there, pixels of the student's map would get no gradient. "
                    f"Make view_size smaller than about twice crop_min = {self.crop_min}, or crop_min larger"
                )


_SMALLEST_REGION = 16
"""Below this side patches of a few pixels would round to anything."""


def _draw_integer(low: int, high: int, generator: torch.Generator) -> int:
    """Uniform over low, low + 1, …, high. Draws even where low = high, so that later draws do not depend on the size."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def _draw_region(size: tuple[int, int], crop_min: int, crop_max: int | None, generator: torch.Generator) -> Tensor:
    """Returns a square, its side uniform in [crop_min, shortest side], its place uniform among those inside the image.

    Where the shortest side S is below ``crop_min`` the side is S. ``crop_max``, if given, replaces S where S is larger.

    Returns:
        (4,) float64: x0, y0, x1, y1, whole numbers.
    """
    height, width = size
    largest = min(height, width) if crop_max is None else min(height, width, crop_max)
    side = _draw_integer(min(crop_min, largest), largest, generator)
    x0 = _draw_integer(0, width - side, generator)
    y0 = _draw_integer(0, height - side, generator)
    return torch.tensor([x0, y0, x0 + side, y0 + side], dtype=torch.float64)


def _check_sides(view_size: int, crop_min: int, crop_max: int | None) -> None:
    """Refuse sizes that mean nothing."""
    if view_size < 1 or crop_min < 1:
        raise ValueError(f"view_size and crop_min are pixels, at least 1; got {view_size} and {crop_min}")
    if crop_max is not None and crop_max < crop_min:
        raise ValueError(f"crop_max = {crop_max} is smaller than crop_min = {crop_min}")


def cells_needed(length: int, side: int, overlap: int) -> int:
    """Fewest intervals of ``side`` a that cover ``length`` L and overlap by v: max(2, ceil((L - v) / (a - v)))."""
    return max(2, math.ceil((length - overlap) / (side - overlap)))


def cover(length: int, side: int, overlap: int, cells: int, generator: torch.Generator) -> Tensor:
    """Returns where ``cells`` intervals of ``side`` begin so that they cover [0, length] and neighbours share at least
    ``overlap``.

    They are spread evenly, the first at 0 and the last at ``length - side``. The others are moved at random, by at most half of
    what their overlaps exceed ``overlap`` and half of the way to their neighbours, so that coverage, overlap and order hold
    whatever is drawn; the outer two must stay, or the border of the region would be left out.

    Args:
        length: the region's side L, in pixels.
        side: the patch's side a <= L.
        overlap: v < a, such that cells * a - (cells - 1) * v >= L.
        cells: number of intervals, at least 2.
        generator: draws the jitter: ``cells`` numbers whatever the sizes.

    Returns:
        (cells,) float64, ascending whole numbers.
    """
    even = torch.tensor([i * (length - side) // (cells - 1) for i in range(cells)], dtype=torch.float64)
    steps = even.diff()
    room = torch.minimum((side - overlap - steps.max()) / 2, steps.min() / 2).floor()
    jitter = ((2 * torch.rand(cells, generator=generator, dtype=torch.float64) - 1) * room).round()
    jitter[[0, -1]] = 0
    return even + jitter
