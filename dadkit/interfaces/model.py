"""Depth models: what teachers and students share, and what tells them apart."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypedDict, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.errors import DadkitError
from dadkit.interfaces.cameras import camera_from_fov, focal_length, known_cameras, resize_camera
from dadkit.interfaces.exporter import Export
from dadkit.interfaces.network import Frozen, ImageNetwork
from dadkit.interfaces.prediction import Estimate, Prediction, concatenate
from dadkit.interfaces.resizing import resize
from dadkit.interfaces.spec import ModelSpec
from dadkit.spaces import Space

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    ImageLike = str | Path | Image.Image | np.ndarray | Tensor

__all__ = ["CameraError", "Deployable", "DepthModel", "FrozenTeacher", "ParamGroup", "Student", "Teacher"]


class CameraError(DadkitError, ValueError):
    """A model cannot answer without a camera, and none is known; the message says how to give one."""

    exit_code = 2


def _doubled(depth: Tensor) -> Tensor:
    """(B, 1, h, w) -> (B, 1, 2h, 2w), as PyTorch's bicubic interpolation: by a convolution, which runtimes have and do fast."""
    even = depth.new_tensor([-0.03515625, 0.26171875, 0.87890625, -0.10546875, 0.0])  # Keys' kernel, a = -0.75, a quarter off
    taps = torch.stack((even, even.flip(0)))
    kernels = (taps[:, None, :, None] * taps[None, :, None, :]).view(4, 1, 5, 5)
    return F.pixel_shuffle(F.conv2d(F.pad(depth, (2, 2, 2, 2), mode="replicate"), kernels), 2)


class DepthModel(ImageNetwork):
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
    fov: float | None = None
    """Horizontal field of view in degrees that a model assumes where it takes a camera and does not know it."""
    layouts: Mapping[str, str] = MappingProxyType({})
    """Layouts that :meth:`export` can write -> what reads them, for `dadkit convert`; none by default."""

    @property
    def needs_camera(self) -> bool:
        """True if a picture whose camera is unknown has no answer: metres by a canonical camera, and no ``fov``."""
        return self.spec.canonical_focal is not None and self.spec.space is Space.METRIC and self.fov is None

    @abstractmethod
    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]] | Estimate:
        """Returns the network itself.

        Args:
            x: (B, 3, h, w) normalised by ``spec.mean`` and ``spec.std``; h and w are multiples of ``spec.size_multiple``.

        Returns:
            ``(depth, features)``: depth (B, 1, h', w') of any size in ``spec.space``, and the feature taps that
            ``spec.features`` names: tokens (B, N, C) or maps (B, C, h'', w''). A model that knows more (validity, sky, its
            camera) answers with an :class:`Estimate`.
        """

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Run at the given size, or the nearest legal multiple, and answer at the given size.

        Args:
            images: (B, 3, H, W) RGB in [0, 1], floating point.
            cameras: (B, 3, 3) in pixels of ``images``, NaN = unknown; used by models whose ``spec.takes_camera`` says so. A
                model that :attr:`needs_camera` answers nothing for a picture whose camera is unknown: no pixel is valid.

        Returns:
            Prediction with ``depth`` (B, 1, H, W) float32.

        Raises:
            ValueError: wrong shape or dtype; the message says what came.
            CameraError: no cameras are given, known or not, to a model that :attr:`needs_camera`.
        """
        self.check(images)
        height, width = images.shape[-2:]
        legal = self.to_legal_size(images)
        return self._run(legal, (height, width), cameras) if self.spec.takes_camera else self._run(legal, (height, width))

    @torch.inference_mode()
    def predict(
        self, images: ImageLike | Sequence[ImageLike], *, cameras: Tensor | None = None, batch_size: int = 1
    ) -> Prediction:
        """Apply the model's own resizing policy and answer at the image's size.

        Args:
            images: one image or a list of them: path, PIL image, uint8 or float array (H, W, 3), or tensor (3, H, W) in
                [0, 1]. All images of a list must have one size, since one Prediction holds them.
            cameras: (B, 3, 3) or (3, 3) in pixels of the images, NaN = unknown, for models that take cameras.
            batch_size: how many images the network sees at once.

        Returns:
            Prediction with ``depth`` (B, 1, H, W) float32, on the model's device; from Apple's GPU, which has no float64 to
            measure and align in, on the CPU. The model's training flag is left as it was.

        Raises:
            DadkitError: the model's parameters are float16, bfloat16 or float64, and its network cannot run so; or the memory
                is not enough.
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
        was_training = self.training
        self.eval()
        try:
            parameter = next(self.parameters(), None)
            device = parameter.device if parameter is not None else torch.device("cpu")
            parts = []
            if cameras is not None:
                cameras = cameras.to(device).reshape(-1, 3, 3).expand(len(tensors), 3, 3)
            for start in range(0, len(tensors), batch_size):
                batch = _stacked(tensors[start : start + batch_size]).to(device)
                given = cameras is not None and self.spec.takes_camera
                more = {"cameras": cameras[start : start + batch_size]} if cameras is not None and given else {}
                parts.append(self.predict_batch(batch, **more))
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                (height, width), count = sizes[0], min(batch_size, len(tensors))
                raise DadkitError(
                    f"{self.spec.name}: {device.type} has not enough memory for {count} images of {width} x {height} at once; "
                    "a smaller batch size or native_size needs less, and so do tiles (dadkit predict --tile)"
                ) from error
            if self.dtype in (None, torch.float32):
                raise
            kind, reason = str(self.dtype).removeprefix("torch."), str(error).partition("\n")[0]
            raise DadkitError(f"{self.spec.name} does not run in {kind} on {device.type}: {reason}. Use float32") from error
        finally:
            self.train(was_training)
        answer = concatenate(parts)
        return answer.cpu() if device.type == "mps" else answer

    def predict_batch(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Returns what :meth:`predict` does with images of one size. Override it where ``spec.native`` cannot say the official
        policy.

        Args:
            images: (B, 3, H, W) RGB in [0, 1] on the model's device, in inference and eval mode.
            cameras: (B, 3, 3) in pixels of ``images``; only given to models whose ``spec.takes_camera`` says so.

        Returns:
            Prediction with ``depth`` (B, 1, H, W).
        """
        height, width = images.shape[-2:]
        resized = resize(images, self.spec.native.target(height, width), self.spec.native)
        return self._run(resized, (height, width), cameras) if self.spec.takes_camera else self._run(resized, (height, width))

    def seen_size(self, height: int, width: int) -> tuple[int, int] | None:
        """Returns the (height, width) at which :meth:`predict` lets the network see an image; None where only an override of
        :meth:`predict_batch` knows.
        """
        return self.spec.native.target(height, width) if type(self).predict_batch is DepthModel.predict_batch else None

    def export(self, layout: str) -> Export:
        """Returns the model as other programs store it. A model that names ``layouts`` implements this.

        Args:
            layout: a key of ``layouts``.
        """
        raise NotImplementedError(f"{self.spec.name} has no layout '{layout}'")

    def deployable(self, size: tuple[int, int] | None = None) -> Deployable:
        """Returns the model as one function from a tensor to a tensor, for exporters.

        The function is the one of :meth:`forward` for sizes that the network can take: RGB in [0, 1] at (B, 3, h, w) in, the
        map (B, 1, h, w) out. Exporters trace it with ``torch.export``, in which sizes are symbols.

        A plugin overrides this where its network has to change for that, or may become simpler: it calls the base class's
        method and changes ``model``, the copy, in the answer. Where only the size matters, ``isinstance(height, int)`` is
        False for a symbol, and the network itself can choose.

        Args:
            size: (height, width) if the file is for this one size; None: it is for all.

        Returns:
            A module that shares no memory with this model. It is in eval mode, and no parameter requires a gradient.
        """
        return Deployable(self)

    def brought_to(self, depth: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns a map (B, 1, h, w) of :meth:`estimate` in float32 at ``size``, interpolated as ``spec`` says."""
        depth = depth.float()
        if depth.shape[-2:] != size:
            bicubic = self.spec.upsampling == "bicubic"
            twice = (2 * depth.shape[-2], 2 * depth.shape[-1]) == size
            if bicubic and twice and not self.spec.align_corners and not torch.is_autocast_enabled(depth.device.type):
                depth = _doubled(depth)  # autocast would compute it in half precision
            else:
                depth = F.interpolate(depth, size, mode=self.spec.upsampling, align_corners=self.spec.align_corners)
            if bicubic and self.spec.range != (None, None):
                depth = depth.clamp(*self.spec.range)
        return depth

    def _run(self, legal: Tensor, answer_size: tuple[int, int], cameras: Tensor | None = None) -> Prediction:
        """Normalise, estimate, and bring the answer to ``answer_size``, the size of the pictures that ``cameras`` are of."""
        if self.spec.takes_camera and self.fov is not None:
            assumed = camera_from_fov(self.fov, answer_size).to(legal.device).expand(len(legal), 3, 3)
            cameras = assumed if cameras is None else cameras.where(known_cameras(cameras)[:, None, None], assumed)
        answer = self.estimate(self.normalized(legal))
        if not isinstance(answer, Estimate):
            answer = Estimate(*answer)
        spec, size = self.spec, tuple(legal.shape[-2:])
        depth = self.brought_to(answer.depth, answer_size)
        valid, sky = self._mask_at(answer.valid, answer_size), self._mask_at(answer.sky, answer_size)
        if spec.canonical_focal is not None and spec.space is Space.METRIC:
            factor, known = self._metres(cameras, answer_size, size)
            depth = depth * factor
            if self.needs_camera and not bool(known.all()):
                valid = known.expand_as(depth) if valid is None else valid & known
                sky = None if sky is None else sky & known
        own = None if answer.intrinsics is None else resize_camera(answer.intrinsics.float(), size, answer_size)
        return Prediction(depth, spec.space, valid, answer.features, own, sky)

    def _mask_at(self, mask: Tensor | None, size: tuple[int, int]) -> Tensor | None:
        if mask is None or mask.shape[-2:] == size:
            return mask
        return F.interpolate(mask.float(), size, mode="bilinear", align_corners=self.spec.align_corners) > 0.5

    def _metres(self, cameras: Tensor | None, given: Sequence[int], seen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, 1, 1, 1) by which answers become metres, 1 where the camera is unknown; and where it is known."""
        canonical = self.spec.canonical_focal
        if cameras is None or canonical is None:
            raise CameraError(
                f"{self.spec.name}: the answers are metres only with a camera; give cameras=(B, 3, 3), NaN where one is "
                "unknown, or the model's option fov for a field of view to assume, or use it with space: scale"
            )
        focal = focal_length(resize_camera(cameras.float(), given, seen)).view(-1, 1, 1, 1)
        known = known_cameras(cameras).view(-1, 1, 1, 1)
        return (focal / canonical).where(known, 1.0), known


def _stacked(images: list[Tensor]) -> Tensor:
    return (
        images[0][None] if len(images) == 1 else torch.stack(images)
    )  # a copy of a photograph takes as long as a small network


class Teacher(Frozen, DepthModel):
    """A frozen model that labels: always in eval mode, no parameter requires a gradient, ``forward`` builds no graph."""

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """As :meth:`DepthModel.forward`, frozen and without a graph."""
        self.freeze()
        with torch.no_grad():
            return super().forward(images, cameras)


class FrozenTeacher(Teacher):
    """Any depth model, a trained student for instance, as a teacher."""

    def __init__(self, model: DepthModel) -> None:
        super().__init__()
        self.model = model
        self.spec, self.fov = model.spec, model.fov
        self.freeze()

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]] | Estimate:
        """Returns the wrapped model's answer."""
        return self.model.estimate(x)

    def deployable(self, size: tuple[int, int] | None = None) -> Deployable:
        """Returns the wrapped model's own."""
        return self.model.deployable(size)

    def predict_batch(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Returns the wrapped model's answer, by its own policy."""
        return self.model.predict_batch(images, cameras) if self.spec.takes_camera else self.model.predict_batch(images)

    def seen_size(self, height: int, width: int) -> tuple[int, int] | None:
        """Returns the wrapped model's own."""
        return self.model.seen_size(height, width)

    def _run(self, legal: Tensor, answer_size: tuple[int, int], cameras: Tensor | None = None) -> Prediction:
        if self.spec.takes_camera:
            return self.model._run(legal, answer_size, cameras)
        return self.model._run(legal, answer_size)


class ParamGroup(TypedDict):
    """One group of trainable parameters: ``name`` is ``"encoder"`` or ``"decoder"``, which decides the learning rate."""

    name: Literal["encoder", "decoder"]
    params: list[nn.Parameter]


class Student(DepthModel):
    """A model that learns."""

    encoder_prefixes: tuple[str, ...] = ("encoder.", "backbone.")
    """Parameters with names that start so form the ``encoder`` group of the default :meth:`param_groups`."""

    head_is_trained: bool = False
    """Set this where the given weights hold the depth head too: the student then keeps its own magnitude while it is trained,
    where one that starts from a random head is held at a mean absolute deviation of about 1."""

    def param_groups(self) -> list[ParamGroup]:
        """Returns every trainable parameter exactly once, as ``encoder`` (usually pre-trained: small rate) and ``decoder``.

        Override it when names do not tell the two apart. Empty groups are left out.
        """
        groups: dict[str, list[nn.Parameter]] = {"encoder": [], "decoder": []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups["encoder" if name.startswith(self.encoder_prefixes) else "decoder"].append(parameter)
        return [ParamGroup(name=name, params=params) for name, params in groups.items() if params]  # type: ignore[typeddict-item]


class Deployable(nn.Module):
    """What :meth:`dadkit.interfaces.DepthModel.deployable` returns.

    It holds a copy of the model in eval mode, without gradients, and the normalisation of the input as two constants.

    Args:
        model: the depth model; it is copied.

    Attributes:
        model: the copy. A plugin's ``deployable`` may change it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: DepthModel) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (model.spec.mean, model.spec.std))
        self.register_buffer("scale", (1 / std).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, images: Tensor) -> Tensor:
        """Returns the depth map of each image.

        Args:
            images: (B, 3, h, w) RGB in [0, 1]; h and w are multiples of ``model.spec.size_multiple``. Other sizes are not
                refused here, since a graph has no way to do so: the program that runs the file checks them.

        Returns:
            (B, 1, h, w) float32 in ``model.spec.space``.
        """
        answer = self.model.estimate(images * self.scale + self.shift)
        depth = answer.depth if isinstance(answer, Estimate) else answer[0]
        return self.model.brought_to(depth, (images.shape[-2], images.shape[-1]))
