"""A picture with the depth of a photograph and the content of a prompt, by a depth ControlNet of diffusers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from PIL import Image


def generate(pipeline: Any, condition: Path, **arguments: Any) -> Image.Image:
    """Returns the generated picture, of the condition's size; ``arguments`` go to the pipeline."""
    near_is_white = Image.open(condition).convert("RGB")
    width, height = near_is_white.size
    return pipeline(image=near_is_white, width=width, height=height, **arguments).images[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("condition", type=Path, help="what `dadkit predict --format controlnet` wrote")
    parser.add_argument("prompt")
    parser.add_argument("--controlnet", default="lllyasviel/control_v11f1p_sd15_depth")
    parser.add_argument("--base", default="stable-diffusion-v1-5/stable-diffusion-v1-5")
    parser.add_argument("--output", type=Path, default=Path("generated.png"))
    arguments = parser.parse_args()

    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    controlnet = ControlNetModel.from_pretrained(arguments.controlnet)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(arguments.base, controlnet=controlnet)
    settings = {"prompt": arguments.prompt, "controlnet_conditioning_scale": 0.8}
    generate(pipeline, arguments.condition, **settings).save(arguments.output)


if __name__ == "__main__":
    main()
