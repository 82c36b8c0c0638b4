"""Depth maps for files: which images, run in batches, written in the formats people open."""

from dadkit.prediction.outputs import FORMATS, read_png16, write_prediction
from dadkit.prediction.predict import Failure, find_images, predict_files

__all__ = ["FORMATS", "Failure", "find_images", "predict_files", "read_png16", "write_prediction"]
