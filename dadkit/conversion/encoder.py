"""A student's encoder by itself, for other tasks: Depth Anything (section 4.3) claims that its encoder transfers."""

from __future__ import annotations

from torch import Tensor

from dadkit.errors import DadkitError
from dadkit.interfaces import DepthModel, Export, FrozenTeacher, Student

__all__ = ["ENCODER", "encoder_alone", "encoder_state"]

ENCODER = "encoder"
"""The layout that every student with an encoder has, whether it names layouts or not."""


def encoder_state(model: DepthModel) -> dict[str, Tensor]:
    """The encoder's tensors, under the names that they have within the encoder.

    What is an encoder the student itself says, by ``encoder_prefixes``. The longest part of a name that all its tensors share,
    up to a dot, is cut off: ``backbone.blocks.0.…`` becomes ``blocks.0.…``.

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
    return {".".join(path[shared:]): state[name].detach() for path, name in zip(paths, state, strict=True)}


def encoder_alone(model: DepthModel) -> Export:
    """The encoder's tensors in a file of their own, for a model that has no better idea (see ``DepthModel.layouts``).

    Raises:
        DadkitError: the model names no encoder.
    """
    return Export(
        encoder_state(model),
        notes=["The tensors bear the names that they have within the encoder, whose code is that of the model."],
        usage='from safetensors.torch import load_file\n\nencoder.load_state_dict(load_file("{path}"))',
    )
