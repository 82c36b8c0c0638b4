"""A trained student's encoder by itself, for other tasks: Depth Anything (section 4.3) claims that its encoder transfers."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from dadkit.errors import DadkitError
from dadkit.files import atomic_path
from dadkit.interfaces import DepthModel, FrozenTeacher, Student

__all__ = ["encoder_state", "export_encoder"]


def encoder_state(model: DepthModel) -> dict[str, Tensor]:
    """The encoder's tensors, under the names that they have within the encoder.

    What is an encoder the student itself says, by ``encoder_prefixes``. The longest part of a name that all its tensors share,
    up
    to a dot, is cut off: ``backbone.blocks.0.…`` becomes ``blocks.0.…``.

    Raises:
        DadkitError: the model names no tensors as its encoder's.
    """
    student = model.model if isinstance(model, FrozenTeacher) else model
    prefixes = student.encoder_prefixes if isinstance(student, Student) else ()
    state = {name: tensor for name, tensor in student.state_dict().items() if name.startswith(prefixes)}
    if not state:
        raise DadkitError(f"'{student.spec.name}' does not say which of its parameters are its encoder's (encoder_prefixes)")
    paths = [name.split(".") for name in state]
    shared = 0
    while all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    return {".".join(path[shared:]): state[name].detach().contiguous() for path, name in zip(paths, state, strict=True)}


def export_encoder(model: DepthModel, path: Path) -> None:
    """Write the encoder's tensors as safetensors; the metadata say which model they are from, its input and its feature taps.

    Raises:
        DadkitError: the model names no encoder, or the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    spec = model.spec
    about = {
        "encoder_of": spec.name,
        "license": spec.license,
        "mean": spec.mean,
        "std": spec.std,
        "size_multiple": spec.size_multiple,
        "features": dict(spec.features),
    }
    with atomic_path(path) as temporary:
        try:
            save_file(encoder_state(model), temporary, metadata={"dadkit_encoder": json.dumps(about, sort_keys=True)})
        except SafetensorError as error:
            raise DadkitError(f"cannot write {path}: {error}") from error
