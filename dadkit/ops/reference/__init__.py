"""The pure-PyTorch reference of every fused operation. It is the specification: what it answers is right by definition.

Functions take (B, H, W) maps of one floating dtype and do no input checks; ``dadkit.losses`` documents, checks and dispatches.
"""

from dadkit.ops.reference.gradient import gradient_matching_loss
from dadkit.ops.reference.local_global import local_global_loss, sample_boxes
from dadkit.ops.reference.normalization import (
    hybrid_norm_loss,
    l1_loss,
    median_mad,
    normalize,
    segment_weights,
    target_statistics,
)
from dadkit.ops.reference.options import NormOptions, Partition, Reduction, TargetStats, Variant

__all__ = [
    "NormOptions",
    "Partition",
    "Reduction",
    "TargetStats",
    "Variant",
    "gradient_matching_loss",
    "hybrid_norm_loss",
    "l1_loss",
    "local_global_loss",
    "median_mad",
    "normalize",
    "sample_boxes",
    "segment_weights",
    "target_statistics",
]
