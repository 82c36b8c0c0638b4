"""Any depth-estimation model of transformers as a dadkit teacher."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.errors import DadkitError
from dadkit.interfaces import ModelSpec, Prediction, Teacher, known_cameras
from dadkit.spaces import Space
from dadkit_hf.families import FAMILIES, Family, family_of, multiple, post_process, prepare, size_policy, statistics
from dadkit_hf.source import find, load, read_license

__all__ = ["AutoDepth", "SpaceUnknownError"]


class SpaceUnknownError(DadkitError):
    """The space of a model's answers is not known, or is said to be another than it is."""

    exit_code = 2


class AutoDepth(Teacher):
    """A depth-estimation model of transformers.

    ``predict`` runs the model's own image processor before and its post-processing after the network, so that its answers are
    those of transformers. ``forward`` runs at the given size, with the processor's statistics. Depth Pro sees one size only;
    it also estimates the field of view, from which ``intrinsics`` are made: square pixels, the principal point in the middle. A
    known camera takes the place of that estimate.

    Args:
        weights: a folder, ``hf://ORG/NAME[@REVISION][/SUBFOLDER]`` or ``ORG/NAME``.
        space: what the answers mean, where the model does not fix it.
        license: of the weights; None = what the model's card says.
        size_multiple: of heights and widths; None = what family and processor say.

    Raises:
        WeightsError: the model cannot be loaded wholly.
        SpaceUnknownError: ``space`` is missing, or contradicts the model.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        space: str | None = None,
        license: str | None = None,
        size_multiple: int | None = None,
    ) -> None:
        super().__init__()
        source = find(weights)
        loaded = load(source)
        family = family_of(loaded.config)
        self.model = loaded.model
        self.processor = loaded.processor
        self.side = family.side if family is not None else None
        legal = size_multiple or math.lcm(multiple(loaded.processor), family.multiple if family is not None else 1)
        mean, std = statistics(loaded.processor)
        self.spec = ModelSpec(
            name=f"hf-{loaded.config.model_type.replace('_', '-')}",
            space=_decide(family, loaded.config.model_type, None if space is None else Space(space)),
            size_multiple=legal,
            native=size_policy(loaded.processor, legal),
            mean=mean,
            std=std,
            upsampling="bicubic",
            license=license or read_license(source),
            takes_camera=family is not None and family.camera,
        )
        self.freeze()

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, h, w), normalised -> depth (B, 1, h', w'), without taps."""
        if self.side is None:
            return self._network(x).predicted_depth[:, None].float(), {}
        outputs = self._network(self._to_its_side(x))
        # Depth Pro's network answers with inverse depth for a focal length of one width: its processor makes metres of it.
        return post_process(self.processor, outputs, tuple(outputs.predicted_depth.shape[-2:]))[0], {}

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """As :meth:`dadkit.interfaces.Teacher.forward`, with intrinsics where the model estimates its field of view."""
        if self.side is None:
            return super().forward(images)
        self.check(images)
        self.freeze()
        with torch.no_grad():
            outputs = self._network(self._to_its_side(self.normalized(images)))
            return self._answer(outputs, (images.shape[-2], images.shape[-1]), cameras)

    def predict_batch(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Predicts with the model's own image processor, network and post-processing."""
        outputs = self._network(prepare(self.processor, images))
        return self._answer(outputs, (images.shape[-2], images.shape[-1]), cameras)

    def _answer(self, outputs: Any, size: tuple[int, int], cameras: Tensor | None) -> Prediction:
        known = None
        if cameras is not None and self.spec.takes_camera:
            cameras, known = cameras.to(outputs.predicted_depth), known_cameras(cameras).to(outputs.predicted_depth.device)
            # A known focal length in place of the estimate, as Depth Pro's own code takes it.
            degrees = torch.rad2deg(2 * torch.atan(size[1] / 2 / cameras[:, 0, 0]))
            outputs.field_of_view = degrees.view_as(outputs.field_of_view).where(
                known.view_as(outputs.field_of_view), outputs.field_of_view
            )
        depth, focal = post_process(self.processor, outputs, size)
        own = None if focal is None else _cameras(focal, *size)
        if own is not None and cameras is not None and known is not None:
            own = cameras.float().where(known[:, None, None], own)
        return Prediction(depth, self.spec.space, intrinsics=own)

    def _to_its_side(self, x: Tensor) -> Tensor:
        assert self.side is not None
        return F.interpolate(x, (self.side, self.side), mode="bilinear", align_corners=False)

    def _network(self, pixels: Tensor) -> Any:
        pixels = pixels.to(next(self.model.parameters()).dtype)
        with _any_shape(self.model, self.model.config, pixels):
            return self.model(pixel_values=pixels)


def _cameras(focal: Tensor, height: int, width: int) -> Tensor:
    """(B,) focal lengths in pixels -> (B, 3, 3) camera matrices; pixel centres at half integers."""
    cameras = torch.zeros(len(focal), 3, 3, device=focal.device)
    cameras[:, 0, 0] = cameras[:, 1, 1] = focal
    cameras[:, 0, 2], cameras[:, 1, 2], cameras[:, 2, 2] = width / 2, height / 2, 1.0
    return cameras


def _decide(family: Family | None, kind: str, said: Space | None) -> Space:
    """Returns the space that the user says or the family fixes."""
    if family is None:
        if said is None:
            raise SpaceUnknownError(
                f"hf/auto does not know what models of type '{kind}' answer with (it knows {', '.join(FAMILIES)}); say it with "
                "space: disparity (larger = nearer), depth (larger = farther) or metric (metres)"
            )
        return said
    if family.refusal:
        raise SpaceUnknownError(f"hf/auto: a model of type '{kind}' cannot teach depth: {family.refusal}")
    if family.space is None:
        if said is None:
            raise SpaceUnknownError(
                f"hf/auto: the model ('{kind}') does not fix the space of its answers, since {family.why}; say it with space: …"
            )
        return said
    if said is not None and said is not family.space and family.certain:
        raise SpaceUnknownError(
            f"hf/auto: space: {said} contradicts the model ('{kind}'): {family.why}, so it is {family.space}"
        )
    return said or family.space


@contextmanager
def _any_shape(model: nn.Module, config: Any, pixels: Tensor) -> Iterator[None]:
    """While this lasts, the model may be called with ``pixels``, whatever their shape: transformers' DPT insists on squares.

    A DPT without a backbone of its own takes its tokens for a square grid; the neck is told the grid here. The hybrid's
    embeddings refuse other sizes than their own unless they are told to interpolate, as those of the plain one always do.
    """
    if config.model_type != "dpt" or (config.backbone_config is not None and not config.is_hybrid):
        yield
        return
    rows, columns = (side // config.patch_size for side in pixels.shape[-2:])
    handles = [model.neck.register_forward_pre_hook(lambda _, arguments: (arguments[0], rows, columns))]
    if config.is_hybrid:
        handles.append(
            model.dpt.embeddings.register_forward_pre_hook(
                lambda _, arguments, keywords: (arguments, {**keywords, "interpolate_pos_encoding": True}), with_kwargs=True
            )
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
