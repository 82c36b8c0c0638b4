"""Prior Depth Anything as a completer: the network that looks at a picture and two coarse completions of its points.

The coarse ones are fits of the relative map to the points in disparity: one for the whole picture, and one for each pixel to
its five nearest points. The network is Depth Anything V2 with a second patch embedding, for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from dadkit_dav2.sizes import SIZES, Size
from dadkit_dinov2 import keys as dinov2
from dadkit_dinov2.dpt import DPTDecoder, output
from dadkit_dinov2.network import Encoder
from dadkit_dinov2.sizes import PATCH
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.alignment import HintsError
from dadkit.interfaces import Completer, CompleterSpec, Hints, ModelSpec, Prediction, SizePolicy, resize
from dadkit.spaces import Space
from dadkit.weights import Fit, WeightFile, WeightsError, assemble, compile_rules, load_family

__all__ = ["PriorDepthAnything", "coarse"]

NEIGHBOURS = 5
"""Points of the fit of a pixel, and fewest points with which there is an answer."""
# Of the mean square of the map at the points: about the noise with which the official code keeps its fits solvable.
_RIDGE = 1e-12
# In units of the points' range: what is nearer to the nearest point is at it.
_NEAREST = 1e-6
# Where the map of random weights starts, see Depth Anything V2's head.
_START = 3.0
_PIXELS = 65536


class _Encoder(Encoder):
    """DINOv2 that sees three more channels."""

    def __init__(self, size: Size) -> None:
        super().__init__(size.encoder, taps=size.taps)
        self.patch_embed.alpha_proj = nn.Conv2d(3, size.width, PATCH, stride=PATCH)
        nn.init.zeros_(self.patch_embed.alpha_proj.weight)
        nn.init.zeros_(self.patch_embed.alpha_proj.bias)

    def patches(self, x: Tensor) -> Tensor:
        """(B, 6, 14 h, 14 w), picture and conditions -> (B, h, w, C)."""
        return self.patch_embed(x[:, :3]) + self.patch_embed.alpha_proj(x[:, 3:]).permute(0, 2, 3, 1)


class _Head(DPTDecoder):
    def __init__(self, size: Size) -> None:
        super().__init__(size.width, size.channels, size.features, coarsest="absent")
        self.scratch.output_conv2 = output(size.features, 1, nn.ReLU())
        nn.init.constant_(self.scratch.output_conv2[2].bias, _START)


class PriorDepthAnything(Completer):
    """Prior Depth Anything 1.1 over the map of any depth model whose answers are, or convert to, disparity.

    The official code takes Depth Anything V2 base for the map; ``--model dav2/base`` is the same. What differs from it:

    * The fits have no random noise. Where the values at the nearest points are all alike, the slope is 0.
    * Each image of a batch is fitted by itself.
    * A pixel at the nearest point's depth has the condition 0, which the official code means and misses by rounding.
    * If all points have one depth, that depth is the unit, so that the answer follows the unit of the points.
    * Pixels for which the network answers 0 are invalid; the official code gives them the nearest point's depth.

    Args:
        size: a key of :data:`dadkit_dav2.sizes.SIZES`: tiny, small or base.
        weights: file, None for random weights.
        native_size: shorter side at which the network runs; None = the size's own.

    Raises:
        WeightsError: the file cannot be read, or is not this model's.

    Source: Wang et al., Depth Anything with Any Prior (2025).
    """

    def __init__(self, size: str, *, weights: str | Path | None = None, native_size: int | None = None) -> None:
        super().__init__()
        architecture = SIZES[size]
        self.spec = CompleterSpec(name=f"prior-depth-anything-{size}", min_hints=NEIGHBOURS, license="Apache-2.0")
        policy = SizePolicy(native_size or architecture.native, "lower_bound", PATCH, "bicubic")
        self.network = ModelSpec(name=self.spec.name, space=Space.DISPARITY, size_multiple=PATCH, native=policy)
        self.pretrained, self.depth_head = _Encoder(architecture), _Head(architecture)
        if weights is not None:
            load_family(
                self,
                weights,
                component=f"priorda/{size}",
                to_model=lambda state: assemble(state, _RULES),
                looks_like=lambda _, state: _looks_like(state),
                hint=lambda fit: _hint(fit, size),
                unlike="It does not look like Prior Depth Anything.",
                check=lambda file: _check_version(file, size),
            )
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def complete(
        self, images: Tensor, hints: Hints, relative: Prediction | None = None, intrinsics: Tensor | None = None
    ) -> Prediction:
        """See :meth:`dadkit.interfaces.Completer.complete`. ``intrinsics`` are not looked at.

        Raises:
            HintsError: an image has fewer than five usable points.
            dadkit.spaces.SpaceError: the map is of affine depth.
        """
        if relative is None:
            raise ValueError(f"{self.spec.name} needs the map of a depth model (relative=…)")
        disparity = relative.to_space(Space.DISPARITY)
        used = hints.valid & hints.depth.isfinite() & (hints.depth > 0)
        if disparity.valid is not None:
            used = used & disparity.valid
        conditions, near, span = [], [], []
        for index in range(len(images)):
            mask = used[index, 0]
            if int(mask.sum()) < NEIGHBOURS:
                raise HintsError(
                    f"{self.spec.name} needs at least {NEIGHBOURS} points in a picture, and one has {int(mask.sum())}; "
                    "the completer align answers with fewer"
                )
            metres = hints.depth[index, 0].double().where(mask, 1.0)
            whole, local = coarse(disparity.depth[index, 0].double(), metres, mask)
            low, high = metres[mask].min(), metres[mask].max()
            unit = high - low if high > low else low
            conditions.append(torch.stack([mask.double(), *(_normal(one, low, unit) for one in (whole, local))]))
            near.append(low)
            span.append(unit)
        answer = self._answer(images, torch.stack(conditions).to(images))
        seen = answer > 0
        low, unit = (torch.stack(values).view(-1, 1, 1, 1).to(answer) for values in (near, span))
        depth = low + unit / answer.where(seen, 1.0)
        return Prediction(depth, Space.METRIC, seen, {"used": used})

    def _answer(self, images: Tensor, conditions: Tensor) -> Tensor:
        """(B, 1, H, W): disparity in units of the points' range, counted from the nearest."""
        height, width = images.shape[-2:]
        policy = self.network.native
        size = policy.target(height, width)
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.network.mean, self.network.std))
        # The official code reads pictures as RGB and turns them to BGR all the same.
        x = (resize(images.flip(1), size, policy) - mean) / std
        conditions = F.interpolate(conditions, size, mode="bilinear", align_corners=True)
        tokens = self.pretrained(torch.cat([x, conditions], 1))
        fused = self.depth_head.fused(tokens, size[0] // PATCH, size[1] // PATCH)
        raw = self.depth_head.scratch.output_conv2(fused).to(images)
        return F.interpolate(raw, (height, width), mode="bilinear", align_corners=True)


def coarse(disparity: Tensor, metres: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps of disparity in 1 / metres: a relative one brought to points as a whole, and each pixel by its nearest points.

    Args:
        disparity: (H, W) float64, a relative map.
        metres: (H, W) float64, positive.
        mask: (H, W) bool, True where ``metres`` is known; at least five are.

    Returns:
        (H, W) float64 each. A pixel's line through its five nearest points weighs them by the square of one over their
        distance. The second map is 1 / metres at the points themselves.
    """
    x, y = disparity[mask], 1 / metres[mask]
    ridge = _RIDGE * x.square().mean().clamp(min=1e-300)
    slope, shift = _line(x, y, torch.ones_like(x), ridge)
    local = torch.empty_like(disparity)
    local[mask] = y
    tree = cKDTree(torch.nonzero(mask).cpu().numpy())
    for part in torch.nonzero(~mask).split(_PIXELS):
        distance, index = (torch.from_numpy(one).to(x.device) for one in tree.query(part.cpu().numpy(), NEIGHBOURS))
        slopes, shifts = _line(x[index], y[index], distance.to(x) ** -2, ridge)
        local[part[:, 0], part[:, 1]] = disparity[part[:, 0], part[:, 1]] * slopes + shifts
    return disparity * slope + shift, local


def _line(x: Tensor, y: Tensor, weight: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and shift of weighted least squares over the last dimension."""
    weight = weight / weight.sum(-1, keepdim=True)
    mean_x, mean_y = (weight * x).sum(-1), (weight * y).sum(-1)
    apart = x - mean_x[..., None]
    slope = (weight * apart * (y - mean_y[..., None])).sum(-1) / ((weight * apart.square()).sum(-1) + ridge)
    return slope, mean_y - slope * mean_x


def _normal(disparity: Tensor, low: Tensor, unit: Tensor) -> Tensor:
    """One over the depth, counted from ``low`` in units of ``unit``; 0 where that is not in front."""
    depth = (1 / disparity.where(disparity > 0, torch.inf)).where(disparity > 0, 0.0)
    place = (depth - low) / unit
    ahead = place > _NEAREST
    return (1 / place.where(ahead, 1.0)).where(ahead, 0.0)


_RULES = compile_rules(
    {
        r"(?:module\.)?pretrained\.(.+)": dinov2.inside("pretrained."),
        # The official code wraps the output once more.
        r"(?:module\.)?(depth_head\.scratch\.output_conv2)\.0\.(\d\..+)": r"\1.\2",
        r"(?:module\.)?(depth_head\..+)": r"\1",
    }
)


def _looks_like(state: Mapping[str, Tensor]) -> str | None:
    if "pretrained.patch_embed.alpha_proj.weight" not in state:
        return None
    found = dinov2.measure(state, "pretrained.")
    return next((name for name, size in SIZES.items() if (size.encoder.width, size.encoder.depth) == found), None)


def _hint(fit: Fit, size: str) -> str:
    return f"It looks like Prior Depth Anything {fit.size}: use priorda/{fit.size}." if fit.size not in (None, size) else ""


def _check_version(file: WeightFile, size: str) -> None:
    """Files of 1.0 have the same tensors, and other conditions: only their name tells."""
    if re.fullmatch(r"prior_depth_anything_vit[sb]\.pth", Path(str(file.path)).name):
        raise WeightsError(
            f"priorda/{size}: by its name {file.path} is of version 1.0, and dadkit knows 1.1, whose files end in _1_1.pth"
        )
