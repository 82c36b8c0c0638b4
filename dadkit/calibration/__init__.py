"""Metres for relative models, from distances that a person can measure or from a labelled set."""

from dadkit.alignment.few import CalibrationError
from dadkit.calibration.labelled import calibrate_set
from dadkit.calibration.points import KnownPoint, calibrate_points, parse_point, read_points, suggest_points
from dadkit.calibration.record import Calibration, beside, calibrated, read_calibration, write_calibration

__all__ = [
    "Calibration",
    "CalibrationError",
    "KnownPoint",
    "beside",
    "calibrate_points",
    "calibrate_set",
    "calibrated",
    "parse_point",
    "read_calibration",
    "read_points",
    "suggest_points",
    "write_calibration",
]
