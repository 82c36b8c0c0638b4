"""The geometric loss: both maps as point clouds, compared after the transforms of a frozen, seeded PointNet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.losses.base import Configured
from dadkit.losses.inputs import whole_maps
from dadkit.ops import Backend, choose, fused, reference
from dadkit.ops.reference.hybrid import is_flat
from dadkit.ops.reference.reduction import over_images, sanitize

__all__ = [
    "Compare",
    "GeometricLoss",
    "PointNet",
    "PointViews",
    "assumed_intrinsics",
    "check_inverse",
    "geometric_loss",
    "unproject",
]


_SHARED, _DENSE = (64, 128, 1024), (512, 256)
_NARROW = 0.1  # of the transforms' last layers, so that they stay near the identity


class PointViews(NamedTuple):
    """What PointNet makes of clouds of P points.

    Attributes:
        points: (B, 3, P), the clouds after the input transform.
        features: (B, 64, P), every point's features after the feature transform.
        input_matrix: (B, 3, 3).
        feature_matrix: (B, 64, 64).
    """

    points: Tensor
    features: Tensor
    input_matrix: Tensor
    feature_matrix: Tensor


class PointNet(nn.Module):
    """Input transform, a shared layer to 64 features, feature transform (Qi et al. 2017), without what follows them.

    It has buffers and no parameters: nothing in it is ever trained. Weights are He-normal from ``seed``, biases 0; batch
    normalisation with fresh statistics in eval mode is the identity, and left out. The buffers are in no state dict, since the
    seed brings them back.

    Example:
        >>> PointNet()(torch.rand(2, 3, 100)).features.shape
        torch.Size([2, 64, 100])
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def chain(name: str, widths: tuple[int, ...], last: float = 1.0) -> None:
            for index, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
                gain = last if index == len(widths) - 2 else 1.0
                weight = torch.randn(fan_out, fan_in, generator=generator, device="cpu") * gain * math.sqrt(2 / fan_in)
                self.register_buffer(f"{name}_{index}", weight, persistent=False)

        chain("input_shared", (3, *_SHARED))
        chain("input_dense", (_SHARED[-1], *_DENSE, 9), _NARROW)
        chain("lift", (3, 64))
        chain("feature_shared", (64, *_SHARED))
        chain("feature_dense", (_SHARED[-1], *_DENSE, 64 * 64), _NARROW / 8)

    def forward(self, points: Tensor) -> PointViews:
        """(B, 3, P) -> its views. The order of the points does not matter."""
        input_matrix = self._transform("input", points, 3)
        moved = input_matrix @ points
        features = torch.einsum("oc,bcp->bop", self._weight("lift_0", points), moved).relu()
        feature_matrix = self._transform("feature", features, 64)
        return PointViews(moved, feature_matrix @ features, input_matrix, feature_matrix)

    def _transform(self, name: str, x: Tensor, width: int) -> Tensor:
        """(B, width, width): identity plus what the cloud as a whole suggests."""
        for index in range(len(_SHARED)):
            x = torch.einsum("oc,bcp->bop", self._weight(f"{name}_shared_{index}", x), x).relu()
        x = x.amax(2)
        for index in range(len(_DENSE) + 1):
            x = F.linear(x, self._weight(f"{name}_dense_{index}", x))
            x = x.relu() if index < len(_DENSE) else x
        return x.view(-1, width, width) + torch.eye(width, dtype=x.dtype, device=x.device)

    def _weight(self, name: str, like: Tensor) -> Tensor:
        return self.get_buffer(name).to(like.dtype)


Compare = Literal["clouds", "matrices"]


def geometric_loss(
    pred: Tensor,
    target: Tensor,
    intrinsics: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    frames: Tensor | None = None,
    encoder: PointNet,
    space: str = "depth",
    fov: float = 60.0,
    points: int = 1024,
    near: float = 1.0,
    compare: Compare = "clouds",
    assume_inverse: Mapping[str, float] | None = None,
    generator: torch.Generator | None = None,
    reduction: Literal["mean", "image"] = "mean",
    backend: Backend = "auto",
) -> Tensor:
    """Student's and teacher's maps as point clouds (Robust Lightweight, geometric distillation).

        X = (u - u0) Z / fx,   Y = (v - v0) Z / fy,        L = MSE(input) + MSE(feature)

    The same ``points`` random valid pixels of both maps are unprojected and shown to ``encoder``; compared are the clouds and
    the points' features after its two transforms. The paper leaves open what Z is for maps of unknown scale and shift. Here
    (ours) both maps are normalised, each by its own median and deviation, and shifted by one number, so that the teacher's
    nearest pixel is at ``near`` deviations; in ``metric`` space Z is in metres, as it is.

    Args:
        pred: (B, H, W) or (B, 1, H, W), floating point; gets the gradient.
        target: same shape; gets no gradient.
        intrinsics: (B, 3, 3) camera matrices in pixels of the maps, pixel centres at half integers; None, and for an image NaN,
            assumes ``fov``.
        mask: bool of the maps' shape, True = valid; None = all valid.
        frames: (B, 3, 3): where the maps are crops, from places in the whole image (its centre 0, its longer side from -1 to 1)
            to pixels of the map, so that ``fov`` is the whole image's; None: the maps are whole.
        encoder: a :class:`PointNet`.
        space: of both maps: ``"depth"``, ``"metric"`` or ``"disparity"``.
        fov: assumed field of view of the image's longer side, in degrees (not from the paper).
        points: pixels per map, drawn with repetition (not from the paper).
        near: least teacher's Z in ``depth`` space, in deviations of the map (not from the paper).
        compare: ``"clouds"``: transformed points and features; ``"matrices"``: the transforms themselves. The poster's
            "(input and feature)" may mean either.
        assume_inverse: ``{"scale": a, "shift": b}`` for disparity maps: Z = 1 / (a d + b) in the teacher's units.
        generator: randomness of the pixels, on the maps' device; None is torch's own.
        reduction: ``"mean"``: images' losses averaged over the batch; ``"image"``: (B,).
        backend: ``"auto"``, ``"fused"`` or ``"reference"``, for the maps' medians and deviations.

    Returns:
        float32 (float64 if an input is float64); the gradient has pred's dtype.

    Invariances (``depth``, same pixels): pred and target each to scale a > 0 and shift.

    Degenerate cases: no valid pixel, or (except ``metric``) a constant target, gives 0; a constant prediction gets no gradient;
    non-finite values as in :func:`hybrid_norm_loss`.

    Raises:
        ValueError: a disparity pair without ``assume_inverse``, since affine disparity has no Z; wrong shapes, dtypes, options.

    Example:
        >>> target = torch.rand(1, 8, 8)
        >>> round(geometric_loss(2 * target + 1, target, encoder=PointNet()).item(), 6)  # blind to scale and shift
        0.0
    """
    check_inverse(space, assume_inverse)
    check_sampling(points, fov, near, compare)
    if reduction not in ("mean", "image"):
        raise ValueError(f"reduction must be 'mean' or 'image', got {reduction!r}: the loss is no sum over pixels")
    p, d, m = whole_maps(pred, target, mask)
    p, d, valid, poison = sanitize(p, d, m)
    camera = _cameras(p, intrinsics, frames, fov)
    own, other, usable = _depths(p, d, valid, space, near, assume_inverse, backend)
    pixels = _sample(valid, points, generator)
    with torch.no_grad():
        wanted = encoder(unproject(other, camera, pixels))
    seen = encoder(unproject(own, camera, pixels))
    pairs = (0, 1) if compare == "clouds" else (2, 3)
    image = sum(((seen[k] - wanted[k]).square().mean((1, 2)) for k in pairs), torch.zeros_like(poison))
    image = torch.where(usable, image, 0) * poison
    return over_images(image, reduction)


def unproject(depth: Tensor, intrinsics: Tensor, pixels: Tensor) -> Tensor:
    """(B, 3, P): the points X, Y, Z of maps (B, H, W) at flat pixel indices (B, P)."""
    z = depth.flatten(1).gather(1, pixels)
    u, v = (pixels % depth.shape[2]) + 0.5, (pixels // depth.shape[2]) + 0.5
    fx, fy, u0, v0 = (intrinsics[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return torch.stack([(u - u0) * z / fx, (v - v0) * z / fy, z], dim=1)


def _cameras(maps: Tensor, intrinsics: Tensor | None, frames: Tensor | None, fov: float) -> Tensor:
    """(B, 3, 3): the known cameras, and where there is none an assumed one."""
    for name, given in (("intrinsics", intrinsics), ("frames", frames)):
        if given is not None and given.shape != (len(maps), 3, 3):
            raise ValueError(f"{name} must be (B, 3, 3) with B = {len(maps)}, got {tuple(given.shape)}")
    assumed = assumed_intrinsics(maps.shape, fov, maps)
    if frames is not None:
        wide = math.tan(math.radians(fov) / 2)
        assumed = frames.to(maps.dtype) / frames.new_tensor([wide, wide, 1]).to(maps.dtype)
    if intrinsics is None:
        return assumed
    known = intrinsics.isfinite().all(2).all(1)[:, None, None]
    return torch.where(known, intrinsics.to(maps.dtype), assumed)


def assumed_intrinsics(shape: torch.Size, fov: float, like: Tensor) -> Tensor:
    """(B, 3, 3) for maps of ``shape`` = (B, H, W) with ``fov`` degrees along the longer side, centred, with square pixels."""
    count, height, width = shape
    focal = 0.5 * max(height, width) / math.tan(math.radians(fov) / 2)
    return like.new_tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).expand(count, 3, 3)


def check_inverse(space: str, assume_inverse: Mapping[str, float] | None) -> None:
    """ValueError unless maps of ``space`` have a depth, given or assumed."""
    if assume_inverse is not None and (set(assume_inverse) != {"scale", "shift"} or not assume_inverse["scale"] > 0):
        raise ValueError(f"assume_inverse is {{scale: a, shift: b}} with a > 0, got {dict(assume_inverse)}")
    if space == "disparity" and assume_inverse is None:
        raise ValueError(
            "the geometric loss unprojects depth, and affine disparity has an unknown shift, so 1/disparity is not its depth. "
            "Use teacher and student in space 'depth' or 'metric', or state the assumption: "
            "assume_inverse: {scale: a, shift: b}"
        )
    if space != "disparity" and assume_inverse is not None:
        raise ValueError(f"assume_inverse turns disparity into depth, but the maps are in space '{space}'; leave it out")


def check_sampling(points: int, fov: float, near: float, compare: str) -> None:
    """ValueError unless the options are legal."""
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}")
    if not 0 < fov < 180:
        raise ValueError(f"fov must be between 0 and 180 degrees, got {fov}")
    if not near > 0:
        raise ValueError(f"near must be above 0, got {near}")
    if compare not in ("clouds", "matrices"):
        raise ValueError(f"compare must be 'clouds' or 'matrices', got {compare!r}")


def _depths(
    pred: Tensor,
    target: Tensor,
    valid: Tensor,
    space: str,
    near: float,
    inverse: Mapping[str, float] | None,
    backend: Backend,
) -> tuple[Tensor, Tensor, Tensor]:
    """Z of both maps (B, H, W), and which images can be compared (B,)."""
    some = valid.flatten(1).any(1)
    if space == "metric":
        return pred, target, some
    own, _, _, _ = _normal(pred, valid, backend)
    other, median, mad, flat = _normal(target, valid, backend)
    usable = some & ~flat
    if inverse is None:
        lowest = other.masked_fill(~valid, torch.inf).amin((1, 2), keepdim=True)
        shift = near - torch.where(some[:, None, None], lowest, 0)
        return own + shift, other + shift, usable
    mad = torch.where(flat[:, None, None], 1, mad)
    least = 1e-3 * (inverse["scale"] * mad)  # so that a disparity at or below the horizon stays a finite depth
    z_own, z_other = (1 / torch.maximum(inverse["scale"] * (x * mad + median) + inverse["shift"], least) for x in (own, other))
    _, unit = choose(backend, fused.median_mad, reference.median_mad, z_other)(z_other, valid)
    unit = torch.where(usable & (unit > 0), unit, 1)[:, None, None]
    return z_own / unit, z_other / unit, usable


def _normal(x: Tensor, valid: Tensor, backend: Backend) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x - t) / s with t and s (B, 1, 1), and which maps are flat (B,), where it is 0."""
    median, mad = choose(backend, fused.median_mad, reference.median_mad, x)(x, valid)
    flat = is_flat(torch.where(valid, x, 0), mad)
    t, s = median[:, None, None], torch.where(flat, 1, mad)[:, None, None]
    return torch.where(flat[:, None, None], 0, (x - t) / s), t, mad[:, None, None], flat


def _sample(valid: Tensor, points: int, generator: torch.Generator | None) -> Tensor:
    """(B, P) flat indices of valid pixels, drawn evenly with repetition; of any pixels where none is valid."""
    weight = valid.flatten(1).float()
    weight = torch.where(weight.sum(1, keepdim=True) > 0, weight, 1)
    return torch.multinomial(weight, points, replacement=True, generator=generator)


class GeometricLoss(Configured):
    """:func:`dadkit.losses.geometric_loss` with a frozen PointNet of its own.

    Args:
        seed: of PointNet's random weights (not from the paper).
        points: pixels per map (not from the paper).
        fov: assumed field of view of the image's longer side in degrees, where its camera is not known (not from the paper).
        near: least teacher's Z, in deviations of the map (not from the paper).
        compare: ``clouds``: transformed points and features; ``matrices``: the transforms themselves.
        assume_inverse: for disparity maps, the assumption ``{scale: a, shift: b}`` with Z = 1 / (a d + b).
        reduction: ``mean`` or ``image``.
        backend: which implementation computes the maps' medians and deviations.

    Example:
        >>> GeometricLoss(points=64)(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), space="metric").shape
        torch.Size([])
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        points: int = 1024,
        fov: float = 60.0,
        near: float = 1.0,
        compare: Compare = "clouds",
        assume_inverse: dict[str, float] | None = None,
        reduction: Literal["mean", "image"] = "mean",
        backend: Backend = "auto",
    ) -> None:
        check_sampling(points, fov, near, compare)
        if assume_inverse is not None:
            check_inverse("disparity", assume_inverse)
        super().__init__(
            points=points,
            fov=fov,
            near=near,
            compare=compare,
            assume_inverse=assume_inverse,
            reduction=reduction,
            backend=backend,
        )
        self.encoder = PointNet(seed)

    def check_space(self, space: str) -> None:
        """ValueError where maps of ``space`` have no depth and none is assumed."""
        check_inverse(space, self.options["assume_inverse"])

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        *,
        intrinsics: Tensor | None = None,
        frames: Tensor | None = None,
        space: str = "depth",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Returns the loss of ``pred`` against ``target``, both in ``space``, where ``mask`` is True; cameras as in the
        functional.
        """
        return geometric_loss(
            pred,
            target,
            intrinsics,
            mask,
            frames=frames,
            encoder=self.encoder,
            space=space,
            generator=generator,
            **self.options,
        )
