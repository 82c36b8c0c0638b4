"""Any student as a folder of transformers, with two small files of code that build it through dadkit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dadkit.interfaces import DepthModel, Export
from dadkit.spaces import Space

__all__ = ["READER", "remote_code"]

READER = "transformers, with dadkit installed and trust_remote_code=True"

_CONFIGURATION = '''"""How a dadkit student is built; for transformers' trust_remote_code."""

from transformers import PretrainedConfig


class DadkitConfig(PretrainedConfig):
    model_type = "dadkit"

    def __init__(self, component="", options=None, **rest):
        self.component, self.options = component, options or {}
        super().__init__(**rest)
'''

_MODELING = '''"""A dadkit student as a depth estimator of transformers; needs `pip install dadkit`."""

import torch
from dadkit import load_student
from transformers import PreTrainedModel
from transformers.modeling_outputs import DepthEstimatorOutput

from .configuration_dadkit import DadkitConfig


class DadkitForDepthEstimation(PreTrainedModel):
    config_class = DadkitConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        with torch.device("cpu"):  # not on meta: constants that no file holds must be computed
            self.net = load_student(config.component, **config.options)
        self.post_init()

    def _init_weights(self, module):
        pass  # the student has initialised itself

    def forward(self, pixel_values, **_):
        answer = self.net.estimate(pixel_values)
        depth = answer.depth if hasattr(answer, "depth") else answer[0]
        return DepthEstimatorOutput(predicted_depth=self.net.brought_to(depth, pixel_values.shape[-2:])[:, 0])
'''

_RESAMPLE = {"bicubic": 3, "bilinear": 2, "area": 3}


def remote_code(model: DepthModel, component: str, options: Mapping[str, Any]) -> Export:
    """Returns the folder's tensors and texts.

    Args:
        model: the student.
        component: its registered name.
        options: that build it, without those of initial weights.
    """
    spec = model.spec
    side = spec.native.size or 384
    config = {
        "model_type": "dadkit",
        "architectures": ["DadkitForDepthEstimation"],
        "auto_map": {
            "AutoConfig": "configuration_dadkit.DadkitConfig",
            "AutoModelForDepthEstimation": "modeling_dadkit.DadkitForDepthEstimation",
        },
        "component": component,
        "options": dict(options),
        "space": str(spec.space),
        "dtype": "float32",
    }
    processor = {
        "image_processor_type": "DPTImageProcessor",
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
        "do_resize": True,
        "size": {"height": side, "width": side},
        "keep_aspect_ratio": spec.native.mode != "exact",
        "ensure_multiple_of": spec.size_multiple,
        "resample": _RESAMPLE[spec.native.interpolation],
        "do_pad": False,
    }
    larger = "nearer" if spec.space is Space.DISPARITY else "farther"
    return Export(
        {f"net.{name}": tensor for name, tensor in model.state_dict().items()},
        {
            "config.json": json.dumps(config, indent=2) + "\n",
            "preprocessor_config.json": json.dumps(processor, indent=2) + "\n",
            "configuration_dadkit.py": _CONFIGURATION,
            "modeling_dadkit.py": _MODELING,
        },
        [
            f"Larger values are {larger}.",
            "The folder holds code that transformers runs only with trust_remote_code=True; dadkit must be installed.",
            "transformers resizes by its own rule and resampling: maps differ a little from those of dadkit.",
        ],
        'from transformers import pipeline\n\nestimate = pipeline("depth-estimation", model="{path}", trust_remote_code=True)\n'
        'depth = estimate("photo.jpg")["predicted_depth"]',
    )
