"""Fits that bring depth maps to truth or to sparse points, for evaluation, calibration, labelling and completion."""

from __future__ import annotations

from dadkit.alignment.sparse import KEEPS_SHIFT, HintsError, Keep, Local, SparseFit, align_to_points
from dadkit.alignment.spread import fill, nearest_lines, trend

__all__ = ["KEEPS_SHIFT", "HintsError", "Keep", "Local", "SparseFit", "align_to_points", "fill", "nearest_lines", "trend"]
