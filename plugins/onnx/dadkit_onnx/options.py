"""What a configuration says about a network in an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dadkit.options import Options as Base

__all__ = ["Options"]

Triple = Annotated[tuple[float, float, float], Field(strict=False)]


class Options(Base):
    """Options of ``onnx/auto``. The input of the network is ``(image - mean) / std * input_max``, with the image in [0, 1]."""

    file: str | Path
    """The .onnx file, or hf://ORG/NAME/FILE."""
    space: Literal["disparity", "scale", "depth", "metric"]
    """What the numbers of its answers mean: ``disparity`` (larger is nearer) or ``depth`` (larger is farther), both up to scale
    and shift, or ``metric`` (metres)."""
    input_max: Annotated[float, Field(gt=0)] = 1.0
    """The number of a white pixel: 1, or 255 for a network that divides by itself."""
    mean: Triple = (0.0, 0.0, 0.0)
    """Mean of the input, for images in [0, 1]; ImageNet's is [0.485, 0.456, 0.406]."""
    std: Triple = (1.0, 1.0, 1.0)
    """Standard deviation of the input, for images in [0, 1]; ImageNet's is [0.229, 0.224, 0.225]."""
    size: Annotated[int, Field(ge=1)] | None = None
    """Side, in pixels, that ``predict`` aims at; null keeps the image's own size. A file that fixes its size goes before it."""
    mode: Literal["lower_bound", "upper_bound", "minimal", "exact"] = "lower_bound"
    """What ``size`` is: the least shorter side, the largest longer side, the side nearer to it, or both sides."""
    size_multiple: Annotated[int, Field(ge=1)] = 32
    """Sides must be a multiple of this, where the file does not fix them."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Most images that the network sees at once; null: as many as are given. A file that fixes its batch goes before it."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of onnxruntime; null: as many as torch has. They sleep, and do not spin, while torch computes."""
    output: str | None = None
    """Name of the output that holds the map; null: the first."""
    license: str = "unknown"
    """Licence of the weights, which dadkit carries on into what is distilled from them."""
