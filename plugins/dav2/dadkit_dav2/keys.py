"""From the names in released files to ours, which are the official ones as timm spells them; and back.

Layouts, told apart name by name, so that no one has to say which file is which:

* official ``.pth`` (Depth Anything V1, V2; Distill Any Depth small and base): ``pretrained.blocks.3…``, ``depth_head…``
* Distill Any Depth large: ``backbone.blocks.0.3…``, where the 0 counts chunks of blocks
* Hugging Face, on disk and in memory: ``backbone.encoder.layer.3…``, ``neck…``, ``head…``

What stands behind ``pretrained.`` or ``backbone.`` is DINOv2, and ``dadkit_dinov2.keys`` knows its names. The way back writes
the official state dict and the folder that transformers loads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from dadkit_dinov2 import keys as dinov2
from torch import Tensor

from dadkit.interfaces import Export, ModelSpec
from dadkit.weights import Place, assemble, compile_rules, locate
from dadkit_dav2.sizes import PATCH, SIZES, Variant

__all__ = [
    "ENCODER",
    "HEAD",
    "LAYOUTS",
    "RULES",
    "encoder",
    "hf_names",
    "hugging_face",
    "looks_like",
    "official",
    "to_model",
]


ENCODER = "pretrained."
HEAD = "depth_head."


def _fusion(match: re.Match[str]) -> str:
    module = "out_conv" if match[2] == "projection" else f"resConfUnit{match[3]}.conv{match[4]}"
    return f"{HEAD}scratch.refinenet{4 - int(match[1])}.{module}.{match[5]}"


RULES = compile_rules(
    {
        r"(?:pretrained|backbone)\.(.+)": dinov2.inside(ENCODER),
        # Hugging Face's head.
        r"neck\.reassemble_stage\.layers\.(\d)\.projection\.(\w+)": rf"{HEAD}projects.\1.\2",
        r"neck\.reassemble_stage\.layers\.(\d)\.resize\.(\w+)": rf"{HEAD}resize_layers.\1.\2",
        r"neck\.convs\.(\d)\.(\w+)": lambda match: f"{HEAD}scratch.layer{int(match[1]) + 1}_rn.{match[2]}",
        r"neck\.fusion_stage\.layers\.(\d)\.(projection|residual_layer([12])\.convolution([12]))\.(\w+)": _fusion,
        r"head\.conv1\.(\w+)": rf"{HEAD}scratch.output_conv1.\1",
        r"head\.conv2\.(\w+)": rf"{HEAD}scratch.output_conv2.0.\1",
        r"head\.conv3\.(\w+)": rf"{HEAD}scratch.output_conv2.2.\1",
    }
)
"""From names in a file to ours; DINOv2's unused mask token takes no part."""


def to_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state dict in any layout as one in ours. Arguments and errors as in :func:`dadkit.weights.assemble`."""
    return assemble(state, RULES)


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """Returns the size that a state dict in our names belongs to, by its width and number of blocks; None = no Depth
    Anything.
    """
    found = dinov2.measure(state, ENCODER)
    return next((name for name, size in SIZES.items() if (size.encoder.width, size.encoder.depth) == found), None)


def hf_names(names: Mapping[str, Tensor], *, swiglu: bool) -> Iterator[tuple[str, Place]]:
    """Hugging Face's names, as on disk, for the parameters of our model, each with the place it is taken from."""
    encoder = (name.removeprefix(ENCODER) for name in names if name.startswith(ENCODER))
    for theirs, place in dinov2.hf_names(encoder, swiglu=swiglu):
        yield f"backbone.{theirs}", place._replace(name=ENCODER + place.name)
    for name in names:
        if name.startswith(HEAD):
            theirs = _hf_head(name.removeprefix(HEAD))
            assert locate(theirs, RULES) == Place(name), f"{theirs} does not belong to {name}"
            yield theirs, Place(name)


_TO_HF = {
    r"projects\.(\d)\.(\w+)": r"neck.reassemble_stage.layers.\1.projection.\2",
    r"resize_layers\.(\d)\.(\w+)": r"neck.reassemble_stage.layers.\1.resize.\2",
    r"scratch\.output_conv1\.(\w+)": r"head.conv1.\1",
    r"scratch\.output_conv2\.0\.(\w+)": r"head.conv2.\1",
    r"scratch\.output_conv2\.2\.(\w+)": r"head.conv3.\1",
}


def _hf_head(name: str) -> str:
    if match := re.fullmatch(r"scratch\.layer(\d)_rn\.(\w+)", name):
        return f"neck.convs.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"scratch\.refinenet(\d)\.(?:out_conv|resConfUnit([12])\.conv([12]))\.(\w+)", name):
        module = f"residual_layer{match[2]}.convolution{match[3]}" if match[2] else "projection"
        return f"neck.fusion_stage.layers.{4 - int(match[1])}.{module}.{match[4]}"
    for pattern, target in _TO_HF.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(target)
    raise ValueError(f"'{name}' is no parameter of Depth Anything's head")


LAYOUTS = {
    "dav2": "one .pth or .safetensors with the official names, for the code of Depth Anything and what builds on it",
    "hf": "a folder for transformers.AutoModelForDepthEstimation",
    "encoder": "its DINOv2 encoder alone, for timm",
}

_ENCODERS = {"small": "vits", "base": "vitb", "large": "vitl", "giant": "vitg"}


def official(model: Variant, spec: ModelSpec, state: Mapping[str, Tensor]) -> Export:
    """Returns the state dict of the official code: giant's own names for its MLP, and the mask token that it insists on."""
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
    """Returns the names, ``config.json`` and ``preprocessor_config.json`` of transformers' DepthAnything."""
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
    """Returns the encoder alone, with the names of timm's vision transformer."""
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
