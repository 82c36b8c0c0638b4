"""Fits that bring depth maps to truth or to sparse points, for evaluation, calibration, labelling and completion."""

from __future__ import annotations

from dadkit.alignment.affine import FITS, Affine, fit_regions, fit_scale_shift, line, per_image
from dadkit.alignment.sparse import FEW, MANY, HintsError, Keep, Local, SparseFit, align_to_points

__all__ = [
    "FEW",
    "FITS",
    "MANY",
    "Affine",
    "HintsError",
    "Keep",
    "Local",
    "SparseFit",
    "align_to_points",
    "fit_regions",
    "fit_scale_shift",
    "line",
    "per_image",
]
