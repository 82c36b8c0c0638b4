"""The losses of dadkit. They need torch and nothing else.

Maps are (B, H, W) or (B, 1, H, W); ``mask`` is bool of the same shape, True = valid. half and bfloat16 are computed in float32,
float64 stays float64; losses come back in that dtype, gradients in the input's. Each functional states what it is invariant to.
"""

from dadkit.losses.anchor import ScaleAnchorLoss, scale_anchor_loss
from dadkit.losses.distributions import ChannelWiseLoss, SpatialLoss, channel_wise_loss, spatial_loss
from dadkit.losses.feature import FeatureAlignmentLoss, PairwiseLoss, feature_alignment_loss, pairwise_loss
from dadkit.losses.geometric import GeometricLoss, PointNet, geometric_loss
from dadkit.losses.gradient import GradientMatchingLoss, gradient_matching_loss
from dadkit.losses.inputs import check_inputs
from dadkit.losses.local_global import local_global_loss
from dadkit.losses.modules import HybridNormLoss, L1Loss, LocalGlobalLoss, LocalNormLoss, SSILoss
from dadkit.losses.normalization import (
    hybrid_norm_loss,
    l1_loss,
    local_norm_loss,
    median_mad,
    normalize,
    ssi_loss,
    target_statistics,
)
from dadkit.losses.scale import ScaleMeter
from dadkit.losses.values import LogL1Loss, MSELoss, SILogLoss, log_l1_loss, mse_loss, silog_loss
from dadkit.ops.reference import TargetStats

__all__ = [
    "ChannelWiseLoss",
    "FeatureAlignmentLoss",
    "GeometricLoss",
    "GradientMatchingLoss",
    "HybridNormLoss",
    "L1Loss",
    "LocalGlobalLoss",
    "LocalNormLoss",
    "LogL1Loss",
    "MSELoss",
    "PairwiseLoss",
    "PointNet",
    "SILogLoss",
    "SSILoss",
    "ScaleAnchorLoss",
    "ScaleMeter",
    "SpatialLoss",
    "TargetStats",
    "channel_wise_loss",
    "check_inputs",
    "feature_alignment_loss",
    "geometric_loss",
    "gradient_matching_loss",
    "hybrid_norm_loss",
    "l1_loss",
    "local_global_loss",
    "local_norm_loss",
    "log_l1_loss",
    "median_mad",
    "mse_loss",
    "normalize",
    "pairwise_loss",
    "scale_anchor_loss",
    "silog_loss",
    "spatial_loss",
    "ssi_loss",
    "target_statistics",
]
