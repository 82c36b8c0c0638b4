"""GenPercept and Lotus as dadkit teachers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dadkit.interfaces import ModelSpec, SizePolicy, Teacher
from dadkit.spaces import Space
from dadkit.weights import WeightsError
from dadkit_genpercept import LICENSE, LOTUS_LICENSE
from dadkit_genpercept.architecture import LATENT_SCALE
from dadkit_genpercept.files import empty_prompt, own_folder
from dadkit_genpercept.networks import build_head, build_unet, build_vae

__all__ = ["GenPercept"]

_MULTIPLE = 64  # the VAE's stride 8 times the UNet's 8
_TIMESTEPS = {"vae": 1, "dpt": 1, "lotus": 999}
_MAP = (math.sin(1), math.sin(0), math.cos(1), math.cos(0))  # Lotus's code for "the map"; that of "the image itself" is (0, 1)
_HALVES = (0.5, 0.5, 0.5)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class GenPercept(Teacher):
    """One deterministic pass of Stable Diffusion's UNet over the image's own latent: no noise, no scheduler, no ensemble.

    With z the mean of the VAE's posterior times 0.18215 and v the UNet's answer to z at timestep 1 and an empty prompt, the
    map is the decoded ``-v / 0.18215``, averaged over channels, clipped to [-1, 1] and brought to [0, 1]. GenPercept is trained
    with a schedule whose cumulative alpha is 0; DDIM's estimate of the clean sample is then exactly -v. With a DPT head the map
    is computed from the outputs of the UNet's four up blocks, and brought to [0, 1] by its smallest and largest value, image
    by image (the official code takes them over the batch).

    Lotus-D is asked at timestep 999 for the clean sample itself, so its map is the decoded answer, each channel clipped before
    the mean. The official code draws the image's latent from the VAE's posterior; here it is the posterior's mean, always.

    Args:
        variant: ``"vae"`` or ``"dpt"`` of GenPercept, or ``"lotus"``.
        space: ``"depth"`` (1 = far) or ``"disparity"`` (1 = near): the checkpoint does not say.
        architecture: a key of :data:`dadkit_genpercept.architecture.ARCHITECTURES`; ``base`` overrides its networks.
        weights: the UNet's file or folder, None for random weights; see :mod:`dadkit_genpercept.options` for this and the rest.
        base: folder of Stable Diffusion 2.1; Lotus's own folder holds everything, so None = ``weights``.
        head: the DPT head's file; None = where GenPercept puts it.
        embedding: file of the empty prompt's embedding; None = computed from ``base``.
        text_rows: 2, 77 or None.
        precision: ``"fp32"`` or ``"bf16"``.
        memory: ``"fast"``, ``"sequential"`` or ``"tiled"``.
        native_size: longer side at which ``predict`` runs; 0 = the image's own.

    Raises:
        WeightsError: a file is missing, cannot be read, or does not fit wholly; nothing is ever filled in from elsewhere.

    Source: Xu et al., What Matters When Repurposing Diffusion Models for General Dense Perception Tasks? (ICLR 2025); He et
    al., Lotus: Diffusion-based Visual Foundation Model for High-quality Dense Prediction (ICLR 2025).
    """

    prompt: Tensor
    task: Tensor | None

    def __init__(
        self,
        variant: Literal["vae", "dpt", "lotus"],
        *,
        space: Literal["depth", "disparity"],
        architecture: str = "sd21",
        weights: str | Path | None = None,
        base: Path | None = None,
        head: str | Path | None = None,
        embedding: Path | None = None,
        text_rows: Literal[2, 77] | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        memory: Literal["fast", "sequential", "tiled"] = "fast",
        native_size: int = 768,
    ) -> None:
        super().__init__()
        self.timestep = _TIMESTEPS[variant]
        if variant == "lotus":
            text_rows = 2
            base = base if weights is None else own_folder(weights)
        self.unet = build_unet(architecture, base, weights, variant=variant)
        self.vae = build_vae(architecture, base, weights, variant=variant)
        self.head = build_head(architecture, self.unet, weights, head) if variant == "dpt" else None
        self.register_buffer("prompt", self._prompt(base, embedding, text_rows, is_random=weights is None))
        self.register_buffer("task", torch.tensor([_MAP]) if variant == "lotus" else None, persistent=False)
        self.memory = memory
        if memory == "tiled":
            self.vae.enable_tiling()
        channels = reversed(self.unet.config.block_out_channels)
        self.spec = ModelSpec(
            name=variant if variant == "lotus" else f"genpercept-{variant}",
            space=Space(space),
            size_multiple=_MULTIPLE,
            native=SizePolicy(native_size or None, "upper_bound", _MULTIPLE, "bilinear", antialias=True),
            mean=_HALVES,
            std=_HALVES,
            range=(0.0, 1.0),
            features={f"up{index}": count for index, count in enumerate(channels)},
            # Random weights are nobody's: only the licence of this code is left.
            license="Apache-2.0" if weights is None else LOTUS_LICENSE if variant == "lotus" else LICENSE,
        )
        self.to(_DTYPES[precision])
        self.freeze()

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(B, 3, 64 h, 64 w) in [-1, 1] -> map (B, 1, 64 h, 64 w) in [0, 1]; ``up0`` to ``up3``, the maps of the UNet's up
        blocks (B, C, …) at strides 32, 16, 8, 8.
        """
        x = x.to(self.prompt.dtype)
        parts = [self._infer(part) for part in (x.split(1) if self.memory != "fast" else [x])]
        depth = torch.cat([depth for depth, _ in parts])
        maps = [torch.cat(same) for same in zip(*(maps for _, maps in parts), strict=True)]
        return depth, {f"up{index}": features for index, features in enumerate(maps)}

    def _infer(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        latent = self.vae.encode(x).latent_dist.mode() * LATENT_SCALE  # (B, 4, 8h, 8w)
        answer, maps = self._unet(latent)
        if self.task is not None:
            decoded = self.vae.decode(answer / LATENT_SCALE).sample
            return (decoded.float().clamp(-1, 1).mean(1, keepdim=True) + 1) / 2, maps
        if self.head is None:
            decoded = self.vae.decode(-answer / LATENT_SCALE).sample  # (B, 3, 64h, 64w)
            return (decoded.float().mean(1, keepdim=True).clamp(-1, 1) + 1) / 2, maps
        depth = self.head(maps[::-1]).float()
        low, high = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
        return (depth - low) / torch.where(high > low, high - low, torch.ones_like(high)), maps

    def _unet(self, latent: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the UNet's answer and its up blocks' outputs. Hooks for one call only, so that copies of the model
        are apart.
        """
        maps: list[Tensor] = []
        handles = [block.register_forward_hook(lambda _, __, output: maps.append(output)) for block in self.unet.up_blocks]
        try:
            prompt = self.prompt.expand(len(latent), -1, -1)
            task = None if self.task is None else self.task.expand(len(latent), -1)
            answer: Tensor = self.unet(latent, self.timestep, encoder_hidden_states=prompt, class_labels=task).sample
        finally:
            for handle in handles:
                handle.remove()
        return answer, maps

    def _prompt(self, base: Path | None, embedding: Path | None, rows: int | None, *, is_random: bool) -> Tensor:
        width = self.unet.config.cross_attention_dim
        if is_random and embedding is None:
            return torch.randn(1, rows or 2, width)
        assert base is not None or embedding is not None
        prompt = empty_prompt(base or Path(), embedding, rows)
        if prompt.shape[-1] != width:
            raise WeightsError(
                f"genpercept: the empty prompt's embedding has {prompt.shape[-1]} channels, the UNet takes {width}; "
                "is it of another version of Stable Diffusion?"
            )
        return prompt
