"""Fits that bring depth maps to other depths: to truth, to sparse points. For evaluation, calibration, labelling, completion."""

from __future__ import annotations

from dadkit.alignment.sparse import FEW, MANY, HintsError, Keep, Local, SparseFit, align_to_points

__all__ = ["FEW", "MANY", "HintsError", "Keep", "Local", "SparseFit", "align_to_points"]
