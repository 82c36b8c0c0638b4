"""Fits that bring depth maps to truth or to sparse points, for evaluation, calibration, labelling and completion."""

from __future__ import annotations

from dadkit.alignment.sparse import HintsError, Keep, Local, SparseFit, align_to_points

__all__ = ["HintsError", "Keep", "Local", "SparseFit", "align_to_points"]
