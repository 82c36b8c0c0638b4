"""The interfaces that plugin authors implement: Teacher, Student, Normalizer, ContextSampler.

A depth model takes RGB in [0, 1] and owns everything else about its input: sizes, mean, standard deviation. It answers
with a :class:`Prediction` at the input's height and width, in a declared :class:`Space`.

Two ways of calling a model, never to be confused:

* ``model(images)`` runs **at the given size** (or the nearest multiple the network can take). Training uses it, so that a
  560-pixel view is seen at 560 pixels.
* ``model.predict(image)`` applies **the model's own resizing policy** in inference mode. Evaluation and users use it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.spaces import Space, SpaceError, check_conversion, convert

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    ImageLike = str | Path | Image.Image | np.ndarray | Tensor

__all__ = [
    "ContextSampler",
    "Contexts",
    "DepthModel",
    "FrozenTeacher",
    "ModelSpec",
    "Normalizer",
    "ParamGroup",
    "Prediction",
    "SizePolicy",
    "Space",
    "SpaceError",
    "Student",
    "Teacher",
    "check_conversion",
    "convert",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_NO_FEATURES: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a depth model answers.

    Attributes:
        depth: (B, 1, H, W) float32, H x W of the input; what the numbers mean is said by ``space``.
        space: disparity (larger = nearer), depth (larger = farther) or metric (metres).
        valid: (B, 1, H, W) bool, True = valid; None means that every pixel is.
        features: named feature taps: tokens (B, N, C) or maps (B, C, h, w).
        intrinsics: (B, 3, 3) camera matrices in pixels of the input, if the model estimates them.
    """

    depth: Tensor
    space: Space
    valid: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=lambda: _NO_FEATURES)
    intrinsics: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", Space(self.space))
        if self.depth.ndim != 4 or self.depth.shape[1] != 1:
            raise ValueError(f"Prediction.depth must be (B, 1, H, W), got {tuple(self.depth.shape)}")
        if self.valid is not None and (self.valid.shape != self.depth.shape or self.valid.dtype != torch.bool):
            raise ValueError(
                f"Prediction.valid must be bool of shape {tuple(self.depth.shape)}, "
                f"got {self.valid.dtype} of shape {tuple(self.valid.shape)}"
            )

    def to_space(self, space: Space | str) -> Prediction:
        """The same prediction in another space, or :class:`SpaceError` if that needs a guess."""
        if Space(space) is self.space:
            return self
        depth, valid = convert(self.depth, self.valid, self.space, space)
        return replace(self, depth=depth, space=Space(space), valid=valid)


@dataclass(frozen=True)
class SizePolicy:
    """How ``predict`` resizes an image of any size before the network sees it.

    Attributes:
        size: target side in pixels; None keeps the image's own size (up to ``multiple``).
        mode: ``"lower_bound"``: the shorter side becomes at least ``size``, aspect ratio kept; ``"upper_bound"``: the longer
            side becomes at most ``size``, aspect ratio kept; ``"exact"``: a ``size x size`` square, aspect ratio ignored.
        multiple: both sides are rounded to a multiple of this.
        interpolation: ``"bicubic"`` (half-pixel, no antialiasing: OpenCV's cubic) or ``"bilinear"``.
        antialias: low-pass before shrinking. Official models are trained without.
    """

    size: int | None = None
    mode: Literal["lower_bound", "upper_bound", "exact"] = "lower_bound"
    multiple: int = 1
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    antialias: bool = False

    def target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) at which the network runs for an image of ``height x width``."""
        if self.size is None:
            return tuple(nearest_multiple(side, self.multiple) for side in (height, width))  # type: ignore[return-value]
        if self.mode == "exact":
            side = nearest_multiple(self.size, self.multiple)
            return side, side
        pick = max if self.mode == "lower_bound" else min
        scale = pick(self.size / height, self.size / width)
        return self._round(height * scale), self._round(width * scale)

    def _round(self, side: float) -> int:
        assert self.size is not None
        rounded = round(side / self.multiple) * self.multiple
        if self.mode == "lower_bound" and rounded < self.size:
            rounded = math.ceil(side / self.multiple) * self.multiple
        if self.mode == "upper_bound" and rounded > self.size:
            rounded = math.floor(side / self.multiple) * self.multiple
        return max(rounded, self.multiple)


@dataclass(frozen=True)
class ModelSpec:
    """What a model declares about itself, so that tools can ask without running it.

    Attributes:
        name: short architecture name, for instance ``"depth-anything-v2-small"``.
        space: the space of its answers.
        size_multiple: the network takes heights and widths that are multiples of this.
        native: the policy of ``predict``.
        mean, std: RGB statistics of the network's input, applied to images in [0, 1].
        range: (low, high) of the answers, None = unbounded on that side.
        features: name of each feature tap -> its number of channels.
        align_corners: how an answer of another size is brought to the input's: True puts corner pixels on corner pixels (as
            Depth Anything V2 does), False puts pixel areas on pixel areas.
        license: SPDX identifier, or a text, of the licence of the *weights*.
    """

    name: str
    space: Space
    size_multiple: int = 1
    native: SizePolicy = SizePolicy()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    range: tuple[float | None, float | None] = (None, None)
    features: Mapping[str, int] = field(default_factory=dict)
    align_corners: bool = False
    license: str = "unknown"

    def __post_init__(self) -> None:
        # A plain dict, since models are deep-copied and pickled with their spec, and a MappingProxyType can do neither.
        object.__setattr__(self, "features", dict(self.features))


class DepthModel(nn.Module, ABC):
    """What teachers and students share.

    To write one, set ``self.spec`` in ``__init__`` and implement :meth:`estimate`; the base class does the rest: it checks the
    input, resizes it to a legal size, normalises it, and brings the answer back to the input's height and width.

    Example::

        class Toy(dadkit.interfaces.Student):
            def __init__(self):
                super().__init__()
                self.spec = ModelSpec(name="toy", space=Space.DISPARITY, size_multiple=4)
                self.net = nn.Conv2d(3, 1, 3, padding=1)

            def estimate(self, x):
                return self.net(x).relu(), {}
    """

    spec: ModelSpec

    @abstractmethod
    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The network itself.

        Args:
            x: (B, 3, h, w) normalised by ``spec.mean`` and ``spec.std``; h and w are multiples of ``spec.size_multiple``.

        Returns:
            ``(depth, features)``: depth (B, 1, h', w') of any size in ``spec.space``, and the feature taps that
            ``spec.features`` names: tokens (B, N, C) or maps (B, C, h'', w'').
        """

    def forward(self, images: Tensor) -> Prediction:
        """Run at the given size, or the nearest legal multiple, and answer at the given size.

        Args:
            images: (B, 3, H, W) RGB in [0, 1], floating point.

        Returns:
            Prediction with ``depth`` (B, 1, H, W) float32.

        Raises:
            ValueError: wrong shape or dtype; the message says what came.
        """
        self._check(images)
        height, width = images.shape[-2:]
        legal = tuple(nearest_multiple(side, self.spec.size_multiple) for side in (height, width))
        return self._run(_resize(images, legal, self.spec.native), (height, width))

    @torch.inference_mode()
    def predict(self, images: ImageLike | Sequence[ImageLike], *, batch_size: int = 1) -> Prediction:
        """Apply the model's own resizing policy and answer at the image's size.

        Args:
            images: one image or a list of them: path, PIL image, uint8 or float array (H, W, 3), or tensor (3, H, W) in
                [0, 1]. All images of a list must have one size, since one Prediction holds them.
            batch_size: how many images the network sees at once.

        Returns:
            Prediction with ``depth`` (B, 1, H, W), on the model's device. The model's training flag is left as it was.
        """
        from dadkit.data.images import to_tensor

        several = isinstance(images, Sequence) and not isinstance(images, str)
        tensors = [
            to_tensor(image) for image in (cast("Sequence[ImageLike]", images) if several else [cast("ImageLike", images)])
        ]
        if not tensors:
            raise ValueError("predict got an empty list of images")
        sizes = sorted({tuple(t.shape[-2:]) for t in tensors})
        if len(sizes) > 1:
            raise ValueError(
                f"predict answers with one tensor, so its images must share one size; got {sizes}. Call it per size."
            )
        (height, width) = sizes[0]
        was_training = self.training
        self.eval()
        try:
            parameter = next(self.parameters(), None)
            device = parameter.device if parameter is not None else torch.device("cpu")
            parts = []
            for start in range(0, len(tensors), batch_size):
                batch = torch.stack(tensors[start : start + batch_size]).to(device)
                resized = _resize(batch, self.spec.native.target(height, width), self.spec.native)
                parts.append(self._run(resized, (height, width)))
        finally:
            self.train(was_training)
        return _concatenate(parts)

    def _run(self, legal: Tensor, answer_size: tuple[int, int]) -> Prediction:
        """Normalise, estimate, and bring the map to ``answer_size``."""
        mean = legal.new_tensor(self.spec.mean).view(3, 1, 1)
        std = legal.new_tensor(self.spec.std).view(3, 1, 1)
        depth, features = self.estimate((legal - mean) / std)
        depth = depth.float()
        if depth.shape[-2:] != answer_size:
            depth = F.interpolate(depth, answer_size, mode="bilinear", align_corners=self.spec.align_corners)
        return Prediction(depth=depth, space=self.spec.space, features=features)

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"{self.spec.name}: images must be (B, 3, H, W), got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise ValueError(
                f"{self.spec.name}: images must be floating point RGB in [0, 1], got {images.dtype}; divide uint8 by 255"
            )


class Teacher(DepthModel):
    """A frozen model that labels: always in eval mode, no parameter requires a gradient, ``forward`` builds no graph."""

    def forward(self, images: Tensor) -> Prediction:
        """As :meth:`DepthModel.forward`, frozen and without a graph."""
        self.freeze()
        with torch.no_grad():
            return super().forward(images)

    def freeze(self) -> None:
        """Put the model into eval mode and take its parameters out of training. Idempotent and cheap."""
        if self.training:
            self.eval()
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> Teacher:
        """A teacher never trains: ``mode`` is ignored, the module stays in eval mode."""
        super().train(False)
        return self


class FrozenTeacher(Teacher):
    """Any depth model, a trained student for instance, as a teacher."""

    def __init__(self, model: DepthModel) -> None:
        super().__init__()
        self.model = model
        self.spec = model.spec
        self.freeze()

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The wrapped model's answer."""
        return self.model.estimate(x)


class ParamGroup(TypedDict):
    """One group of trainable parameters: ``name`` is ``"encoder"`` or ``"decoder"``, which decides the learning rate."""

    name: Literal["encoder", "decoder"]
    params: list[nn.Parameter]


class Student(DepthModel):
    """A model that learns."""

    encoder_prefixes: tuple[str, ...] = ("encoder.", "backbone.")
    """Parameters whose names start so form the ``encoder`` group of the default :meth:`param_groups`."""

    head_is_trained: bool = False
    """Set this where the given weights hold the depth head too: the student then keeps its own magnitude while it is trained,
    where one that starts from a random head is held at a mean absolute deviation of about 1."""

    def param_groups(self) -> list[ParamGroup]:
        """Every trainable parameter exactly once, as ``encoder`` (usually pre-trained: small rate) and ``decoder``.

        Override it when names do not tell the two apart. Empty groups are left out.
        """
        groups: dict[str, list[nn.Parameter]] = {"encoder": [], "decoder": []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups["encoder" if name.startswith(self.encoder_prefixes) else "decoder"].append(parameter)
        return [ParamGroup(name=name, params=params) for name, params in groups.items() if params]  # type: ignore[typeddict-item]


@runtime_checkable
class Normalizer(Protocol):
    """Maps prediction and target to comparable values.

    A normalizer may also offer ``loss(pred, target, mask, *, reduction, trim, backend) -> Tensor``, the fused path of
    ``(weight * |pred_n - target_n|)`` summed over levels, and ``local_global(pred, target, boxes, mask, *, pred_mask,
    reduction, trim, backend)``, the same between a map and its patches. Without them ``dadkit.normalizers.map_loss`` and
    ``local_global`` take the mean from ``__call__``'s answer.
    """

    def __call__(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise both maps.

        Args:
            pred: (B, 1, H, W) or (B, H, W), the student's map; gets gradients.
            target: same shape, the teacher's map; its values cut the segments.
            mask: bool of the same shape, True = valid; None = all valid.

        Returns:
            ``(pred_n, target_n, weight)``, each (B, L, H, W) for L levels. ``weight`` is 0 where a pixel takes no part and
            sums over L to 1 where it does, so that ``(weight * |pred_n - target_n|).sum(1)`` is the loss per pixel.
        """
        ...


@dataclass(frozen=True, eq=False)
class Contexts:
    """Where student and teacher look in one image: boxes only, no pixels. Boxes are x0, y0, x1, y1; x1 and y1 exclusive.

    Attributes:
        region: (4,) float64 tensor in pixels of the image: what the student sees, once, resized to ``view_size``.
        view_size: (height, width) of the student's view and of the teacher's view of the same region.
        patches: (N, 4) float64 in pixels *relative to the region's corner* (0 <= x <= region width); N may be 0.
        patch_size: (height, width) at which the teacher sees each patch.
    """

    region: Tensor
    view_size: tuple[int, int]
    patches: Tensor
    patch_size: tuple[int, int]

    def boxes_in_view(self) -> Tensor:
        """(N, 4) float32: the patches in (fractional) pixels of the student's view, as ``local_global_loss`` takes them."""
        x0, y0, x1, y1 = self.region.tolist()
        scale_x, scale_y = self.view_size[1] / (x1 - x0), self.view_size[0] / (y1 - y0)
        return (self.patches * self.patches.new_tensor([scale_x, scale_y, scale_x, scale_y])).float()


@runtime_checkable
class ContextSampler(Protocol):
    """Chooses where student and teacher look. Pure: the same size and generator state give the same boxes."""

    def __call__(self, size: tuple[int, int], generator: torch.Generator) -> Contexts:
        """Draw contexts for an image of ``size`` = (height, width) with randomness from ``generator`` (CPU) only.

        Every image of a run must get the same ``view_size``, ``patch_size`` and N, so that batches can be stacked.
        """
        ...


def nearest_multiple(side: int, multiple: int) -> int:
    """The multiple of ``multiple`` nearest to ``side`` (ties up), at least one multiple: 560 -> 560 for 14, 576 for 32 x 18."""
    return max(multiple, int(side / multiple + 0.5) * multiple)


def _resize(images: Tensor, size: tuple[int, ...], policy: SizePolicy) -> Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, tuple(size), mode=policy.interpolation, align_corners=False, antialias=policy.antialias)


def _concatenate(parts: list[Prediction]) -> Prediction:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]

    def join(pick: Any) -> Tensor | None:
        picked = [pick(p) for p in parts]
        return None if picked[0] is None else torch.cat(picked)

    features = {name: torch.cat([p.features[name] for p in parts]) for name in first.features}
    depth = torch.cat([p.depth for p in parts])
    return Prediction(depth, first.space, join(lambda p: p.valid), features, join(lambda p: p.intrinsics))
