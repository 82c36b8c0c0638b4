"""What the numbers of a depth map mean, and which meanings can be turned into which.

A map without a declared space is worthless: users of this field lose more time to "is larger nearer or farther?" than to
anything else. Every model, label and metric therefore names its space, and nothing is ever guessed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from dadkit.errors import DadkitError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Metres", "Space", "SpaceError", "check_conversion", "conversion_text", "convert", "depth_of"]


class Space(StrEnum):
    """The space of a depth map."""

    DISPARITY = "disparity"
    """Affine-invariant inverse depth: larger is nearer; unknown scale and shift."""
    DEPTH = "depth"
    """Affine-invariant depth: larger is farther; unknown scale and shift."""
    SCALE = "scale"
    """Depth up to one factor: larger is farther; unknown scale, shift 0, so its inverse is a disparity."""
    METRIC = "metric"
    """Depth along the optical axis in metres: larger is farther."""


class SpaceError(DadkitError, ValueError):
    """Two components speak of different quantities and no exact conversion exists."""

    exit_code = 2


_LEAST = 1e-12
_LOG_DEPTH = (-5.0, 6.0)
_WHY = {
    (Space.DEPTH, Space.DISPARITY): "affine depth has an unknown shift, so 1/depth is not its disparity",
    (Space.DISPARITY, Space.DEPTH): "affine disparity has an unknown shift, so 1/disparity is not its depth",
    (Space.DISPARITY, Space.METRIC): "affine disparity has unknown scale and shift, so it holds no metres",
    (Space.DEPTH, Space.METRIC): "affine depth has unknown scale and shift, so it holds no metres",
    (Space.DISPARITY, Space.SCALE): "affine disparity has an unknown shift, so 1/disparity is no depth up to one factor",
    (Space.DEPTH, Space.SCALE): "affine depth has an unknown shift besides its factor",
    (Space.SCALE, Space.METRIC): "depth up to one factor has an unknown scale, so it holds no metres",
}


def depth_of(logarithm: Tensor) -> Tensor:
    """Depth from a network's number: its exponential in float32, kept between 7 mm and 400 m.

    Args:
        logarithm: any shape, any floating dtype.

    Example:
        >>> import torch
        >>> depth_of(torch.tensor([-100.0, 0.0, 100.0]))
        tensor([6.7379e-03, 1.0000e+00, 4.0343e+02])
    """
    return logarithm.float().clamp(*_LOG_DEPTH).exp()


def check_conversion(source: Space | str, target: Space | str, *, what: str = "the map") -> None:
    """Raise :class:`SpaceError` unless a map in ``source`` can be turned exactly into ``target``.

    Exact conversions are the identity, metric -> scale and metric or scale -> depth (the same numbers), and metric or scale
    -> disparity (``1 / depth``).

    Args:
        source: the space the values are in.
        target: the space they are wanted in.
        what: the subject of the message, for instance ``"teacher 'genpercept/depth'"``.

    Example:
        >>> check_conversion("metric", "disparity")
        >>> check_conversion("disparity", "metric")
        Traceback (most recent call last):
        dadkit.spaces.SpaceError: the map answers in space 'disparity', but 'metric' is wanted: affine disparity has unknown ...
    """
    source, target = Space(source), Space(target)
    why = _WHY.get((source, target))
    if why is not None:
        exact = [space for space in Space if (space, target) not in _WHY]
        wanted = " or ".join(f"'{space}'" for space in sorted(exact, key=lambda space: space is not target))
        raise SpaceError(
            f"{what} answers in space '{source}', but '{target}' is wanted: {why}. "
            f"Use a component whose space is {wanted}, or change the other side's space to '{source}'."
        )


def conversion_text(source: Space | str, target: Space | str) -> str | None:
    """Returns what :func:`convert` does to the numbers, in a few words; None where it does nothing.

    Example:
        >>> conversion_text("metric", "disparity")
        'metric as disparity: 1 / x'
        >>> conversion_text("scale", "depth")
        'scale as depth: the same numbers'
        >>> conversion_text("depth", "depth")
    """
    source, target = Space(source), Space(target)
    if source is target:
        return None
    return f"{source} as {target}: {'1 / x' if target is Space.DISPARITY else 'the same numbers'}"


def convert(values: Tensor, valid: Tensor | None, source: Space | str, target: Space | str) -> tuple[Tensor, Tensor | None]:
    """Turn a map from one space into another, exactly or not at all.

    Args:
        values: map of any shape, in ``source``.
        valid: bool mask of the same shape, True = valid, or None for "all".
        source: the space of ``values``.
        target: the wanted space.

    Returns:
        ``(values, valid)`` in ``target``. metric or scale -> disparity is ``1 / depth``; pixels with depth <= 0, NaN or
        infinite depth have no disparity that training could use except infinity, whose disparity is exactly 0 (sky): +inf stays
        valid where it was valid, all others become invalid with value 0.

    Raises:
        SpaceError: no exact conversion exists (see :func:`check_conversion`).

    Example:
        >>> values, valid = convert(torch.tensor([2.0, 0.0, torch.inf]), None, "metric", "disparity")
        >>> values.tolist(), valid.tolist()
        ([0.5, 0.0, 0.0], [True, False, True])
    """
    source, target = Space(source), Space(target)
    check_conversion(source, target)
    if not (source in (Space.METRIC, Space.SCALE) and target is Space.DISPARITY):
        return values, valid
    usable = values > 0  # False for NaN; True for +inf, whose disparity is 0
    inverse = (1.0 / values.where(usable, values.new_ones(()))).where(usable, values.new_zeros(()))
    return inverse, usable if valid is None else valid & usable


@dataclass(frozen=True)
class Metres:
    """How values of a map become metres.

    Attributes:
        space: of the values.
        scale, shift, power: metres are scale * value ** power + shift, for disparity 1 divided by this. Where the power is not
            1, values below 0 count as 0.
        nearest, farthest: metres are held within these; what would be beyond is not valid.
        bends: (low, high, more): between these two values the power is larger by ``more``. So the logarithm of the metres is a
            chain of straight lines over that of the values.

    Example:
        >>> import torch
        >>> metres = Metres(Space.DISPARITY, 0.5, 0.0, 0.5, 10.0)
        >>> metres(torch.tensor([4.0, 1.0, 0.0])).tolist(), metres.inside(torch.tensor([4.0, 1.0, 0.0])).tolist()
        ([0.5, 2.0, 10.0], [True, True, False])
    """

    space: Space
    scale: float
    shift: float
    nearest: float
    farthest: float
    power: float = 1.0
    bends: tuple[tuple[float, float, float], ...] = ()

    def __call__(self, values: Tensor) -> Tensor:
        """Metres of the same shape, finite and positive."""
        fitted = self._fitted(values)
        if self.space is Space.DISPARITY:
            return fitted.clamp(1 / self.farthest, 1 / self.nearest).reciprocal()
        return fitted.clamp(self.nearest, self.farthest)

    def inside(self, values: Tensor) -> Tensor:
        """True where the metres were not held back."""
        fitted = self._fitted(values)
        low, high = self.nearest, self.farthest
        if self.space is Space.DISPARITY:
            low, high = 1 / high, 1 / low
        return (fitted >= low * (1 - 1e-6)) & (fitted <= high * (1 + 1e-6))

    def _fitted(self, values: Tensor) -> Tensor:
        if self.bends:
            logarithm = values.clamp(min=_LEAST).log()
            exponent = self.power * logarithm
            for low, high, more in self.bends:
                exponent = exponent + more * (logarithm.clamp(math.log(low), math.log(high)) - math.log(low))
            return exponent.exp() * self.scale + self.shift
        if self.power != 1:
            values = values.clamp(min=0) ** self.power
        return values * self.scale + self.shift
