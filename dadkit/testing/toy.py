"""Toys of every kind: they keep the whole contract, need no weights, and run in milliseconds on a CPU.

They take the place of real components in tests, and show how little one of each kind takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.data import Sample
from dadkit.interfaces import (
    Contexts,
    Exporter,
    ExportRequest,
    FeatureEncoder,
    ModelSpec,
    NetworkSpec,
    SizePolicy,
    StepInputs,
    Student,
    Teacher,
    Term,
)
from dadkit.spaces import Space

__all__ = [
    "ToyEncoder",
    "ToyExporter",
    "ToyImages",
    "ToyLoss",
    "ToyNormalizer",
    "ToySampler",
    "ToyStudent",
    "ToyTeacher",
    "ToyTerm",
]

_NATIVE = SizePolicy(size=None, multiple=4)
_WIDTH = 8


class ToyTeacher(Teacher):
    """Disparity that grows towards the bottom of the picture and with brightness, which any student can learn.

    Args:
        detail: how much brightness counts against position.
    """

    def __init__(self, detail: float = 0.5) -> None:
        super().__init__()
        self.spec = ModelSpec(
            name="toy-teacher",
            space=Space.DISPARITY,
            size_multiple=4,
            native=_NATIVE,
            features={"tokens": _WIDTH},
            license="CC0-1.0",
        )
        self.detail = nn.Parameter(torch.tensor(detail))
        self.patches = _patches()

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 1, h, w) disparity, and tokens."""
        rows = torch.linspace(0, 1, x.shape[-2], device=x.device, dtype=x.dtype).view(1, 1, -1, 1)
        return rows + self.detail * x.mean(1, keepdim=True), {"tokens": _tokens(self.patches(x))}


class ToyStudent(Student):
    """Two convolutions and a softplus.

    Args:
        width: channels between them.
    """

    def __init__(self, width: int = _WIDTH) -> None:
        super().__init__()
        self.spec = ModelSpec(
            name="toy-student",
            space=Space.DISPARITY,
            size_multiple=4,
            native=_NATIVE,
            range=(0, None),
            features={"tokens": width},
            license="CC0-1.0",
        )
        self.encoder = nn.Conv2d(3, width, 4, stride=4)
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 1, h / 4, w / 4) disparity, and tokens."""
        features = F.gelu(self.encoder(x))
        return F.softplus(self.head(features)), {"tokens": _tokens(features)}


class ToyEncoder(FeatureEncoder):
    """Patches of 4 x 4 pixels through one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            name="toy-encoder", size_multiple=4, native=_NATIVE, features={"tokens": _WIDTH}, license="CC0-1.0"
        )
        self.patches = _patches()

    def encode(self, x: Tensor) -> Mapping[str, Tensor]:
        """Returns tokens (B, h / 4 * w / 4, 8)."""
        return {"tokens": _tokens(self.patches(x))}


class ToyNormalizer:
    """Subtracts the mean and divides by the mean absolute deviation of the valid pixels: one level."""

    invariances = ("scale", "shift")

    def __call__(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns both maps normalised, and a weight of 1 where the mask is True; (B, 1, H, W) each."""
        pred, target = _flat(pred), _flat(target).detach()
        valid = torch.ones_like(target, dtype=torch.bool) if mask is None else _flat(mask)
        weight = valid.to(pred.dtype)
        return self._normalize(pred, valid), self._normalize(target, valid), weight

    def _normalize(self, x: Tensor, valid: Tensor) -> Tensor:
        x = x.where(valid, 0)
        count = valid.sum((2, 3), keepdim=True).clamp(min=1)
        centred = (x - x.sum((2, 3), keepdim=True) / count).where(valid, 0)
        scale = centred.abs().sum((2, 3), keepdim=True) / count
        tiny = 1e-6 * x.abs().amax((2, 3), keepdim=True)
        return centred / scale.where(scale > tiny, 1)


class ToySampler:
    """One random square, and patches at random places in it.

    Args:
        size: side in pixels at which the region and each patch are seen.
        n: patches per image.
    """

    def __init__(self, size: int = 32, n: int = 2) -> None:
        self.size, self.n = size, n

    def __call__(self, size: tuple[int, int], generator: torch.Generator) -> Contexts:
        """Draw contexts for an image of ``size`` = (height, width)."""
        height, width = size
        side = min(size) * (0.6 + 0.4 * _uniform(1, generator))
        corner = torch.cat([(width - side) * _uniform(1, generator), (height - side) * _uniform(1, generator)])
        corners = side * torch.stack([_uniform(2, generator) for _ in range(self.n)]) / 2
        seen = (self.size, self.size)
        return Contexts(torch.cat([corner, corner + side]), seen, torch.cat([corners, corners + side / 2], dim=1), seen)


class ToyLoss(nn.Module):
    """Smooth L1 over the valid pixels.

    Args:
        softness: where the parabola turns into a line.
    """

    def __init__(self, softness: float = 0.1) -> None:
        super().__init__()
        self.softness = softness

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns one number: the mean over valid pixels, then over images; 0 without a valid pixel."""
        dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
        valid = torch.ones_like(target, dtype=torch.bool) if mask is None else mask
        difference = (pred.to(dtype) - target.to(dtype)).where(valid, 0)
        loss = ((difference**2 + self.softness**2).sqrt() - self.softness).where(valid, 0)
        return (loss.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)).mean()


class ToyTerm(Term):
    """Smooth L1 between the student's maps and their targets at the student's scale, with a learned softness."""

    needs = frozenset({"regions", "labels", "scale"})

    def __init__(self) -> None:
        super().__init__()
        self.log_softness = nn.Parameter(torch.tensor(-2.0))

    def forward(self, inputs: StepInputs) -> Tensor:
        """Returns one number: the mean over valid pixels, then over images."""
        pair = inputs.maps
        assert pair is not None
        softness = self.log_softness.exp()
        difference = (pair.pred - pair.scaled_target).where(pair.mask, 0)

        def loss(*, reduction: str) -> Tensor:
            pixels = ((difference**2 + softness**2).sqrt() - softness).where(pair.mask, 0)
            images = pixels.flatten(1).sum(1) / pair.mask.flatten(1).sum(1).clamp(min=1)
            return images.mean() if reduction == "mean" else images

        return pair.mean(loss)


class ToyImages:
    """Eight pictures of discs above a floor, 64 x 80 pixels, with their depth in metres: made by arithmetic, no file.

    Args:
        count: how many.
        size: height and width in pixels.
    """

    def __init__(self, count: int = 8, size: tuple[int, int] = (64, 80)) -> None:
        self.count, self.size = count, tuple(size)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        index = range(self.count)[index]
        height, width = self.size
        generator = torch.Generator().manual_seed(index)
        y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
        depth = 2 / (0.2 + y)
        colour = torch.stack([0.3 + 0.5 * y, 0.5 + 0.2 * x, 0.6 - 0.3 * y])
        for distance in (6.0, 4.0, 2.5):  # far to near, so that near discs cover far ones
            cx, cy, radius, *paint = torch.rand(6, generator=generator).tolist()
            disc = ((x - cx) ** 2 + (y - cy) ** 2).sqrt() < 0.1 + 0.15 * radius
            depth = torch.where(disc, distance, depth)
            colour = torch.where(disc, torch.tensor(paint).view(3, 1, 1) / distance**0.5, colour)
        image = (colour.clamp(0, 1) * 255).round().to(torch.uint8)
        return Sample(image=image, key=f"toy/{index}", depth=depth[None], space=Space.METRIC)


class ToyExporter(Exporter):
    """A graph of torch.export, with dynamic sizes, in torch's own format."""

    suffix = ".pt2"

    def write(self, network: nn.Module, path: Path, request: ExportRequest) -> None:
        """Trace and save."""
        self._save(request.trace(network), path, {})

    def annotate(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Beside the graph, as a file in the archive."""
        self._save(torch.export.load(path), path, {**self.metadata(path), **metadata})

    def metadata(self, path: Path) -> Mapping[str, str]:
        """Returns what annotate stored."""
        extra = {"metadata.json": ""}
        torch.export.load(path, extra_files=extra)
        return json.loads(extra["metadata.json"] or "{}")

    def open(self, path: Path, *, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the graph as torch runs it; torch has one number of threads for the whole process."""
        graph = torch.export.load(path).module()

        def run(images: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return graph(torch.from_numpy(images)).numpy()

        return run

    def _save(self, program: torch.export.ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # it names files of this machine
        torch.export.save(program, path, extra_files={"metadata.json": json.dumps(metadata)})


def _patches() -> nn.Conv2d:
    """Returns weights that are the same every time, so that two toys agree."""
    layer = nn.Conv2d(3, _WIDTH, 4, stride=4)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, layer.weight.numel()).view_as(layer.weight).sin())
        layer.bias.zero_()  # type: ignore[union-attr]
    return layer


def _tokens(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return features.flatten(2).transpose(1, 2)


def _flat(x: Tensor) -> Tensor:
    """(B, H, W) or (B, 1, H, W) -> (B, 1, H, W)."""
    return x[:, None] if x.ndim == 3 else x


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, dtype=torch.float64)
