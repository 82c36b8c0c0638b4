"""Depth maps for files: which images, run in batches, written in the formats people open; videos; point clouds."""

from dadkit.prediction.camera import CloudError, Lens
from dadkit.prediction.inputs import VIDEOS, find_inputs
from dadkit.prediction.outputs import DEFAULT, FORMATS, write_prediction
from dadkit.prediction.plan import OverwriteError, check_targets, identity, make_plan
from dadkit.prediction.predict import Failure, Note, carry_out, predict_files
from dadkit.prediction.sparse import Sparse
from dadkit.prediction.video import predict_video

__all__ = [
    "DEFAULT",
    "FORMATS",
    "VIDEOS",
    "CloudError",
    "Failure",
    "Lens",
    "Note",
    "OverwriteError",
    "Sparse",
    "carry_out",
    "check_targets",
    "find_inputs",
    "identity",
    "make_plan",
    "predict_files",
    "predict_video",
    "write_prediction",
]
