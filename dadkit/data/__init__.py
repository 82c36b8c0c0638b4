"""Image folders, lists and tar shards, image/depth pairs, rendered scenes, and the streams of batches that training reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dadkit._lazy import lazy_names

if TYPE_CHECKING:
    from dadkit_procedural.dataset import ProceduralScenes

    from dadkit.data.labels import Labels
    from dadkit.data.pairs import DepthPairs
    from dadkit.data.patterns import PATTERNS, simulate
    from dadkit.data.sample import Batch, Dataset, Sample
    from dadkit.data.stream import Member, Stream, Streams, build_streams
    from dadkit.data.unlabelled import Images
    from dadkit.errors import SampleError

__all__ = [
    "PATTERNS",
    "Batch",
    "Dataset",
    "DepthPairs",
    "Images",
    "Labels",
    "Member",
    "ProceduralScenes",
    "Sample",
    "SampleError",
    "Stream",
    "Streams",
    "build_streams",
    "simulate",
]

# So that a dataset's author who needs Sample does not import the renderer.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "dadkit.data.labels": ("Labels",),
        "dadkit.data.pairs": ("DepthPairs",),
        "dadkit_procedural.dataset": ("ProceduralScenes",),  # a plugin since; the name here stays for its users
        "dadkit.data.sample": ("Batch", "Dataset", "Sample"),
        "dadkit.errors": ("SampleError",),
        "dadkit.data.patterns": ("PATTERNS", "simulate"),
        "dadkit.data.stream": ("Member", "Stream", "Streams", "build_streams"),
        "dadkit.data.unlabelled": ("Images",),
    },
)
