"""What a student owes besides: it learns, all of it, and says how. A teacher owes that it is frozen."""

from __future__ import annotations

import copy
from typing import Any

import torch

from dadkit.interfaces import FrozenTeacher, Teacher
from dadkit.losses import ssi_loss
from dadkit.testing.check import check, fail
from dadkit.testing.subject import Subject, images, legal_size

_STEPS = 20


@check("student", since=1, needs=["answers"])
def gradients(subject: Subject) -> None:
    """A loss on its depth and features sends a finite gradient to every trainable parameter."""
    student = subject.fresh().train()
    answer = student(images(legal_size(subject)))
    generator = torch.Generator().manual_seed(0)
    total = sum(
        (x.float() * torch.randn(x.shape, generator=generator)).mean() for x in [answer.depth, *answer.features.values()]
    )
    assert isinstance(total, torch.Tensor)
    if not total.requires_grad:
        fail("its answer carries no graph", "Take no_grad, detach and .data out of forward")
    total.backward()
    trainable = {name: p for name, p in student.named_parameters() if p.requires_grad}
    if not trainable:
        fail("it has no trainable parameter", "Leave requires_grad on for what is to be learned")
    unreached = [name for name, p in trainable.items() if p.grad is None]
    if unreached:
        fail(
            f"no gradient reaches {', '.join(unreached[:5])} ({len(unreached)} of {len(trainable)})",
            "Use them in forward, drop them, or set requires_grad=False; several processes would wait for them for ever",
        )
    broken = [name for name, p in trainable.items() if p.grad is not None and not p.grad.isfinite().all()]
    if broken:
        fail(f"the gradient of {', '.join(broken[:5])} is not finite", "Guard square roots, divisions and logarithms at zero")


@check("student", since=1, needs=["gradients"])
def learns(subject: Subject) -> None:
    """Twenty steps on one batch lower the loss."""
    student = subject.fresh().train()
    picture = images(legal_size(subject))
    target = 1 + picture.mean(1, keepdim=True)
    optimizer = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for _ in range(_STEPS):
        optimizer.zero_grad()
        loss = ssi_loss(student(picture).depth, target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    first, last = sum(losses[:3]) / 3, sum(losses[-3:]) / 3
    if not last < first:
        fail(
            f"the scale- and shift-invariant loss went from {first:.4f} to {last:.4f} in {_STEPS} steps",
            "Look for a detached or reversed gradient, a saturated head (all zeros after ReLU), or weights restored in forward",
        )


@check("student", since=1, needs=["answers"])
def train_and_eval(subject: Subject) -> None:
    """Modes: train() and eval() switch every part, and in eval mode calling it changes no weight and no statistic."""
    student = subject.fresh()
    for mode in (True, False):
        student.train(mode)
        wrong = [name or "the model" for name, module in student.named_modules() if module.training != mode]
        if wrong:
            fail(f"after train({mode}) {', '.join(wrong[:3])} is in the other mode", "Leave train to torch.nn.Module")
    before = copy.deepcopy(student.state_dict())
    with torch.no_grad():
        student(images(legal_size(subject)))
    changed = [name for name, value in student.state_dict().items() if not torch.equal(value, before[name])]
    if changed:
        fail(f"in eval mode it changed {', '.join(changed[:5])}", "Update running statistics only while self.training")


@check("student", since=1, needs=["answers"])
def param_groups(subject: Subject) -> None:
    """Each trainable parameter is in param_groups() exactly once, in a group named encoder or decoder."""
    student = subject.fresh()
    groups = student.param_groups()
    names = [group.get("name") for group in groups]
    if len(set(names)) != len(names) or not set(names) <= {"encoder", "decoder"}:
        fail(
            f"the groups are named {names}",
            "Name them 'encoder' and 'decoder', each at most once: that decides the learning rate",
        )
    given = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = {id(p): name for name, p in student.named_parameters() if p.requires_grad}
    missing = [name for key, name in trainable.items() if key not in given]
    if missing:
        fail(f"{', '.join(missing[:5])} is in no group, so it would never learn", "Put every trainable parameter into a group")
    if len(given) != len(set(given)) or not set(given) <= set(trainable):
        fail(
            "a parameter is in two groups, or one in a group is frozen",
            "Put each trainable parameter into one group, and no other",
        )


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
