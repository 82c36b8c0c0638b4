"""Depth maps for files: which images, run in batches, written in the formats people open; videos; point clouds."""

from dadkit.prediction.camera import CloudError, Lens
from dadkit.prediction.outputs import DEFAULT, FORMATS, read_png16, write_prediction
from dadkit.prediction.predict import Failure, find_images, predict_files
from dadkit.prediction.video import VIDEOS, predict_video

__all__ = [
    "DEFAULT",
    "FORMATS",
    "VIDEOS",
    "CloudError",
    "Failure",
    "Lens",
    "find_images",
    "predict_files",
    "predict_video",
    "read_png16",
    "write_prediction",
]
