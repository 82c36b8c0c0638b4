"""The interfaces that plugin authors implement: Teacher, Student, FeatureEncoder, Normalizer, ContextSampler, Term, Exporter.

A network takes RGB in [0, 1] and owns everything else about its input: sizes, mean, standard deviation. A depth model answers
with a :class:`Prediction` at the input's height and width, in a declared :class:`Space`; a feature encoder answers with named
feature taps.

Two ways of calling a depth model, never to be confused:

* ``model(images)`` runs **at the given size** (or the nearest multiple the network can take). Training uses it, so that a
  560-pixel view is seen at 560 pixels.
* ``model.predict(image)`` applies **the model's own resizing policy** in inference mode. Evaluation and users use it.
"""

from dadkit.interfaces.calibrated import CalibratedModel
from dadkit.interfaces.cameras import (
    camera_from_fov,
    crop_camera,
    flip_camera,
    focal_length,
    known_cameras,
    resize_camera,
)
from dadkit.interfaces.completion import Completer, CompleterSpec, Hints
from dadkit.interfaces.contexts import Contexts, ContextSampler
from dadkit.interfaces.deployed import DeployedModel
from dadkit.interfaces.exporter import Export, Exporter, ExportRequest
from dadkit.interfaces.model import CameraError, Deployable, DepthModel, FrozenTeacher, ParamGroup, Student, Teacher
from dadkit.interfaces.network import FeatureEncoder, Frozen, ImageNetwork
from dadkit.interfaces.prediction import Estimate, Prediction
from dadkit.interfaces.resizing import SizePolicy, nearest_multiple, resize
from dadkit.interfaces.spec import IMAGENET_MEAN, IMAGENET_STD, ModelSpec, NetworkSpec
from dadkit.interfaces.term import FeaturePair, MapPair, Need, Normalizer, PatchPair, StepInputs, Term
from dadkit.spaces import Metres, Space, SpaceError, check_conversion, convert

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "CalibratedModel",
    "CameraError",
    "Completer",
    "CompleterSpec",
    "ContextSampler",
    "Contexts",
    "Deployable",
    "DeployedModel",
    "DepthModel",
    "Estimate",
    "Export",
    "ExportRequest",
    "Exporter",
    "FeatureEncoder",
    "FeaturePair",
    "Frozen",
    "FrozenTeacher",
    "Hints",
    "ImageNetwork",
    "MapPair",
    "Metres",
    "ModelSpec",
    "Need",
    "NetworkSpec",
    "Normalizer",
    "ParamGroup",
    "PatchPair",
    "Prediction",
    "SizePolicy",
    "Space",
    "SpaceError",
    "StepInputs",
    "Student",
    "Teacher",
    "Term",
    "camera_from_fov",
    "check_conversion",
    "convert",
    "crop_camera",
    "flip_camera",
    "focal_length",
    "known_cameras",
    "nearest_multiple",
    "resize",
    "resize_camera",
]
