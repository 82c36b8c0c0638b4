"""The losses of dadkit. They need torch and nothing else.

Maps are (B, H, W) or (B, 1, H, W); ``mask`` is bool of the same shape, True = valid. half and bfloat16 are computed in float32,
float64 stays float64; losses come back in that dtype, gradients in the input's. Each functional states what it is invariant to.
"""

from dadkit.losses.anchor import ScaleAnchorLoss, scale_anchor_loss
from dadkit.losses.checks import check_inputs
from dadkit.losses.feature import feature_alignment_loss
from dadkit.losses.gradient import gradient_matching_loss
from dadkit.losses.local_global import local_global_loss
from dadkit.losses.modules import (
    FeatureAlignmentLoss,
    GradientMatchingLoss,
    HybridNormLoss,
    L1Loss,
    LocalGlobalLoss,
    LocalNormLoss,
    SSILoss,
)
from dadkit.losses.normalization import (
    hybrid_norm_loss,
    l1_loss,
    local_norm_loss,
    median_mad,
    normalize,
    ssi_loss,
    target_statistics,
)
from dadkit.ops.reference import TargetStats

__all__ = [
    "FeatureAlignmentLoss",
    "GradientMatchingLoss",
    "HybridNormLoss",
    "L1Loss",
    "LocalGlobalLoss",
    "LocalNormLoss",
    "SSILoss",
    "ScaleAnchorLoss",
    "TargetStats",
    "check_inputs",
    "feature_alignment_loss",
    "gradient_matching_loss",
    "hybrid_norm_loss",
    "l1_loss",
    "local_global_loss",
    "local_norm_loss",
    "median_mad",
    "normalize",
    "scale_anchor_loss",
    "ssi_loss",
    "target_statistics",
]
