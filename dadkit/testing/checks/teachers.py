"""What a teacher owes besides: it is frozen."""

from __future__ import annotations

from typing import Any

import torch

from dadkit.interfaces import FrozenTeacher, Teacher
from dadkit.testing.check import check, fail
from dadkit.testing.subject import Subject
from dadkit.testing.trials import images, legal_size


@check("teacher", "encoder", since=1, needs=["answers"])
def frozen(subject: Subject) -> None:
    """It labels in eval mode and without a graph, whatever was called before: train(), requires_grad inputs."""
    model = as_used(subject)
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    answer = model(images(legal_size(subject)).requires_grad_())
    tensors = list(answer.values()) if subject.kind == "encoder" else [answer.depth, *answer.features.values()]
    modules = [name or "the model" for name, module in model.named_modules() if module.training]
    if any(tensor.requires_grad for tensor in tensors):
        fail("its answer carries a graph", "Leave forward to the base class, or compute under torch.no_grad()")
    if modules:
        fail(f"{', '.join(modules[:3])} trained while it labelled", "Leave train and freeze to the base class")
    if any(parameter.requires_grad for parameter in model.parameters()):
        fail("a parameter still requires a gradient after it labelled", "Leave freeze to the base class")


def as_used(subject: Subject) -> Any:
    """A new one as the engine uses it: a depth model that is no Teacher is wrapped and frozen."""
    model: Any = subject.fresh()
    if subject.kind == "teacher" and not isinstance(model, Teacher):
        return FrozenTeacher(model)
    freeze = getattr(model, "freeze", None)
    if isinstance(model, torch.nn.Module) and freeze is not None:
        freeze()
    return model
