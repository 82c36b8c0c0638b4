"""The networks of Stable Diffusion 2.1, and tiny ones for tests and demos, as data in the words of diffusers' configs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["ARCHITECTURES", "LATENT_SCALE", "TASK", "Architecture"]

LATENT_SCALE = 0.18215
"""What Stable Diffusion multiplies its VAE's latents by."""
TASK = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 4}
"""What Lotus's UNet has beside Stable Diffusion's: a projection of the task that it is asked for."""


@dataclass(frozen=True)
class Architecture:
    """UNet and VAE as diffusers configures them, and the channels of the DPT head."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    head_width: int


def _unet(channels: tuple[int, ...], heads: tuple[int, ...], layers: int, text: int, groups: int) -> dict[str, Any]:
    return {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": channels,
        "layers_per_block": layers,
        "attention_head_dim": heads,
        "cross_attention_dim": text,
        "norm_num_groups": groups,
        "use_linear_projection": True,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    }


def _vae(channels: tuple[int, ...], layers: int, groups: int, size: int) -> dict[str, Any]:
    return {
        "block_out_channels": channels,
        "layers_per_block": layers,
        "norm_num_groups": groups,
        "sample_size": size,
        "latent_channels": 4,
        "scaling_factor": LATENT_SCALE,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "sd21": Architecture(
            _unet((320, 640, 1280, 1280), (5, 10, 20, 20), 2, 1024, 32), _vae((128, 256, 512, 512), 2, 32, 768), 256
        ),
        "tiny": Architecture(_unet((32, 64, 64, 64), (2, 4, 4, 4), 1, 32, 8), _vae((16, 32, 32, 32), 1, 8, 128), 32),
    }
)
