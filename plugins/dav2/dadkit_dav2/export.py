"""Depth Anything as others store it: the official state dict, and the folder that transformers loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dadkit.interfaces import Export, ModelSpec
from dadkit_dav2.keys import ENCODER, hf_names
from dadkit_dav2.sizes import PATCH, Variant

__all__ = ["LAYOUTS", "encoder", "hugging_face", "official"]

LAYOUTS = {
    "dav2": "one .pth or .safetensors with the official names, for the code of Depth Anything and what builds on it",
    "hf": "a folder for transformers.AutoModelForDepthEstimation",
    "encoder": "its DINOv2 encoder alone, for timm",
}

_ENCODERS = {"small": "vits", "base": "vitb", "large": "vitl", "giant": "vitg"}


def official(model: Variant, spec: ModelSpec, state: Mapping[str, Tensor]) -> Export:
    """The state dict of the official code: giant's own names for its MLP, and the mask token that it insists on."""
    swiglu = model.architecture.encoder.swiglu
    tensors: dict[str, Tensor] = {f"{ENCODER}mask_token": torch.zeros(1, model.architecture.width)}
    for name, tensor in state.items():
        if swiglu and name.startswith(ENCODER):
            name = name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.")
        tensors[name] = tensor
    notes = []
    if model.version == "v1":
        notes.append("It is a V1 model: nothing in the file says so, and the code of V2 taps other blocks.")
    if model.max_depth is not None:
        notes.append(f"It answers in metres up to max_depth {model.max_depth:g}, which nothing in the file says.")
    if model.pos_embed == "hf":
        notes.append("It was trained with pos_embed: hf; the official code resizes the position embedding by another rule.")
    if model.size not in _ENCODERS:
        notes.append(f"The official code knows no size '{model.size}'; dadkit loads it as {model.name}.")
    return Export(tensors, notes=notes, usage=_official_usage(model))


def hugging_face(model: Variant, spec: ModelSpec, state: Mapping[str, Tensor]) -> Export:
    """Names, ``config.json`` and ``preprocessor_config.json`` of transformers' DepthAnything."""
    size = model.architecture
    tensors = {name: place.take(state) for name, place in hf_names(state, swiglu=size.encoder.swiglu)}
    tensors["backbone.embeddings.mask_token"] = torch.zeros(1, size.width)
    notes = []
    if model.pos_embed == "official":
        side = size.native
        notes.append(
            f"transformers resizes the position embedding by another rule than the official code (pos_embed: official), so at "
            f"every input but {side} x {side} its answers differ from dadkit's by a few per cent. A student trained with "
            "pos_embed: hf has the same answers everywhere."
        )
    if model.max_depth is not None and model.max_depth != int(model.max_depth):
        notes.append(f"transformers 5 refuses a max_depth that is no whole number, and this model has {model.max_depth:g}.")
    files = {
        "config.json": json.dumps(_config(model), indent=2) + "\n",
        "preprocessor_config.json": json.dumps(_preprocessor(spec), indent=2) + "\n",
    }
    return Export(tensors, files, notes, _HF_USAGE)


def encoder(model: Variant, spec: ModelSpec, state: Mapping[str, Tensor]) -> Export:
    """The encoder alone, with the names of timm's vision transformer."""
    size = model.architecture
    notes = []
    if model.pos_embed == "official":
        notes.append(
            f"timm resizes the position embedding by another rule than the official code (pos_embed: official), so at every "
            f"input but {size.native} x {size.native} its features differ a little."
        )
    tensors = {name.removeprefix(ENCODER): tensor for name, tensor in state.items() if name.startswith(ENCODER)}
    return Export(tensors, notes=notes, usage=_timm_usage(model))


def _config(model: Variant) -> dict[str, Any]:
    size = model.architecture
    taps = [tap + 1 for tap in size.tapped(model.version)]  # transformers counts the stem too
    return {
        "architectures": ["DepthAnythingForDepthEstimation"],
        "model_type": "depth_anything",
        "backbone_config": {
            "model_type": "dinov2",
            "apply_layernorm": True,
            "hidden_size": size.encoder.width,
            "image_size": size.native,
            "num_attention_heads": size.encoder.heads,
            "num_hidden_layers": size.encoder.depth,
            "out_features": [f"stage{tap}" for tap in taps],
            "out_indices": taps,
            "patch_size": PATCH,
            "reshape_hidden_states": False,
            "use_swiglu_ffn": size.encoder.swiglu,
        },
        "depth_estimation_type": "relative" if model.max_depth is None else "metric",
        "fusion_hidden_size": size.features,
        "head_hidden_size": 32,
        "head_in_index": -1,
        "max_depth": _whole(1 if model.max_depth is None else model.max_depth),
        "neck_hidden_sizes": list(size.channels),
        "patch_size": PATCH,
        "reassemble_factors": [4, 2, 1, 0.5],
        "reassemble_hidden_size": size.width,
        "torch_dtype": "float32",
    }


def _whole(number: float) -> float | int:
    """transformers 5 takes no fraction, not even 20.0."""
    return int(number) if number == int(number) else number


def _preprocessor(spec: ModelSpec) -> dict[str, Any]:
    side = spec.native.size
    return {
        "image_processor_type": "DPTImageProcessor",
        "do_normalize": True,
        "do_pad": False,
        "do_rescale": True,
        "do_resize": True,
        "ensure_multiple_of": PATCH,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
        "keep_aspect_ratio": True,
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        "size": {"height": side, "width": side},
        "size_divisor": None,
    }


_HF_USAGE = """
from transformers import AutoImageProcessor, AutoModelForDepthEstimation

processor = AutoImageProcessor.from_pretrained("{path}")
model = AutoModelForDepthEstimation.from_pretrained("{path}")
depth = model(**processor(images=picture, return_tensors="pt")).predicted_depth
"""


def _official_usage(model: Variant) -> str:
    size = model.architecture
    encoder = _ENCODERS.get(model.size)
    if encoder is None:
        return f'import dadkit\n\nmodel = dadkit.load_teacher("{model.name}", weights="{{path}}")'
    metric = "" if model.max_depth is None else f", max_depth={model.max_depth:g}"
    return (
        "import torch\nfrom depth_anything_v2.dpt import DepthAnythingV2\n\n"
        f'model = DepthAnythingV2(encoder="{encoder}", features={size.features}, out_channels={list(size.channels)}{metric})\n'
        'model.load_state_dict(torch.load("{path}"))'
    )


def _timm_usage(model: Variant) -> str:
    encoder = model.architecture.encoder
    if model.size in _ENCODERS:
        made = f'timm.create_model("vit_{model.size}_patch14_dinov2", dynamic_img_size=True)'
    else:
        made = (
            f"timm.models.VisionTransformer(img_size={encoder.native}, patch_size={PATCH}, embed_dim={encoder.width}, "
            f"depth={encoder.depth}, num_heads={encoder.heads}, init_values=1.0, num_classes=0, dynamic_img_size=True)"
        )
    return (
        f"import timm\nfrom safetensors.torch import load_file\n\nmodel = {made}.eval()\n"
        'model.load_state_dict(load_file("{path}"))\n'
        "tokens = model.forward_features(images)[:, 1:]  # (B, N, C): without the class token"
    )
