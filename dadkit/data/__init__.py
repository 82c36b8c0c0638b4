"""Image folders, lists and tar shards, image/depth pairs, rendered scenes, and the streams of batches that training reads."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dadkit.data.build import Streams, build_streams
    from dadkit.data.loader import Member, Stream
    from dadkit.data.pairs import DepthPairs
    from dadkit.data.procedural import ProceduralScenes
    from dadkit.data.sample import Batch, Dataset, Sample, SampleError
    from dadkit.data.unlabelled import Images

__all__ = [
    "Batch",
    "Dataset",
    "DepthPairs",
    "Images",
    "Member",
    "ProceduralScenes",
    "Sample",
    "SampleError",
    "Stream",
    "Streams",
    "build_streams",
]

# Resolved when first used, so that a dataset's author who needs Sample does not import the renderer.
_LAZY = {
    "Batch": "dadkit.data.sample",
    "Dataset": "dadkit.data.sample",
    "DepthPairs": "dadkit.data.pairs",
    "Images": "dadkit.data.unlabelled",
    "Member": "dadkit.data.reading",
    "ProceduralScenes": "dadkit.data.procedural",
    "Sample": "dadkit.data.sample",
    "SampleError": "dadkit.data.sample",
    "Stream": "dadkit.data.loader",
    "Streams": "dadkit.data.build",
    "build_streams": "dadkit.data.build",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'dadkit.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
