"""Fits that bring depth maps to truth or to sparse points, for evaluation, calibration, labelling and completion."""

from __future__ import annotations

from dadkit.alignment.sparse import KEEPS_SHIFT, HintsError, Keep, Local, SparseFit, align_to_points, within
from dadkit.alignment.spread import fill, kriging

__all__ = ["KEEPS_SHIFT", "HintsError", "Keep", "Local", "SparseFit", "align_to_points", "fill", "kriging", "within"]
