"""Fits that bring depth maps to truth or to sparse points, for evaluation, calibration, labelling and completion."""

from __future__ import annotations

from dadkit.alignment.sparse import KEEPS_SHIFT, HintsError, Keep, Local, SparseFit, align_to_points
from dadkit.alignment.spread import nearest_lines

__all__ = ["KEEPS_SHIFT", "HintsError", "Keep", "Local", "SparseFit", "align_to_points", "nearest_lines"]
