"""The kinds of components, one row each: what plugins register, what commands list, what a configuration names.

A new kind is a row of :data:`KINDS`. The hook of its name, the command that lists it, the messages, the JSON schema and
``dadkit plugins check`` follow from the row. Its checks belong to :mod:`dadkit.testing`, its scaffold to
``dadkit/plugin/scaffold.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["KINDS", "ComponentKind"]


@dataclass(frozen=True)
class ComponentKind:
    """One row of the table.

    Attributes:
        command: the command that lists these components, ``teachers`` for instance.
        summary: one line for ``dadkit --help``.
        listed: what ``dadkit COMMAND --help`` says it lists.
        hook: the plugin hook that registers them.
        target: what the hook names, and what its targets return: the hook's documentation.
        noun: what messages call one of them.
        example: arguments of the command, for the example in its help.
        has_space: their maps are in a declared space, and the listing takes ``--space``.
        has_cost: they are networks, and the listing takes ``--cost``.
    """

    command: str
    summary: str
    listed: str
    hook: str
    target: str
    noun: str
    example: str = ""
    has_space: bool = True
    has_cost: bool = False


KINDS: Mapping[str, ComponentKind] = {
    "teacher": ComponentKind(
        command="teachers",
        summary="Models that label.",
        listed="the models that label",
        hook="register_teachers",
        target="Name depth models that label. The target returns a ``Teacher``, or any ``DepthModel``, which dadkit freezes.",
        noun="teacher",
        example="'dav2/*' --space disparity",
        has_cost=True,
    ),
    "student": ComponentKind(
        command="students",
        summary="Models that learn.",
        listed="the models that learn",
        hook="register_students",
        target="Name depth models that learn. The target returns a ``Student``.",
        noun="student",
        example="topformer --cost --size 448",
        has_cost=True,
    ),
    "encoder": ComponentKind(
        command="encoders",
        summary="Frozen features that a student may follow.",
        listed="the frozen encoders whose features a student may follow: names for ``losses.feature.reference``",
        hook="register_encoders",
        target="Name feature encoders, which feature alignment may follow. The target returns a ``FeatureEncoder``.",
        noun="feature encoder",
        example="'dinov2/*'",
        has_space=False,
    ),
    "normalizer": ComponentKind(
        command="normalizers",
        summary="What makes two maps comparable.",
        listed="the normalizers, which make prediction and target comparable",
        hook="register_normalizers",
        target="Name normalizers. The target returns a ``Normalizer``.",
        noun="normalizer",
    ),
    "context": ComponentKind(
        command="contexts",
        summary="Samplers: where student and teacher look.",
        listed="the context samplers, which choose where student and teacher look",
        hook="register_context_samplers",
        target="Name context samplers. The target returns a ``ContextSampler``.",
        noun="context sampler",
    ),
    "loss": ComponentKind(
        command="losses",
        summary="Further terms for the total.",
        listed="the losses that may be named under ``losses.extra``",
        hook="register_losses",
        target="Name losses on whole maps, (B, 1, H, W). The target returns a callable ``(pred, target, mask) -> scalar``.",
        noun="loss",
        example="--json",
    ),
    "term": ComponentKind(
        command="terms",
        summary="Terms of the training loss, beyond losses on maps.",
        listed="the terms of the training loss that may be named under ``losses.extra``, beside losses on maps",
        hook="register_terms",
        target="Name terms of the training loss. The target returns a ``Term``.",
        noun="term",
        has_space=False,
    ),
    "hook": ComponentKind(
        command="hooks",
        summary="Loggers, and what else looks into training.",
        listed="the loggers that may be named under ``log``, and the hooks that may be named under ``hooks``",
        hook="register_hooks",
        target="Name hooks into training: loggers, schedules. The target returns a ``dadkit.training.Hook``.",
        noun="hook",
        has_space=False,
    ),
    "dataset": ComponentKind(
        command="datasets",
        summary="Where images and true depth come from.",
        listed="the datasets: where images and true depth come from",
        hook="register_datasets",
        target="Name datasets. The target returns a ``dadkit.data.Dataset``: ``__len__`` and ``__getitem__ -> Sample``.",
        noun="dataset",
        example="--space metric",
    ),
    "completer": ComponentKind(
        command="completers",
        summary="What makes dense metres of sparse ones.",
        listed="the completers, which make dense metres of sparse ones: names for `dadkit predict --completer`",
        hook="register_completers",
        target="Name completers. The target returns a ``dadkit.interfaces.Completer``.",
        noun="completer",
        has_space=False,
    ),
    "exporter": ComponentKind(
        command="exporters",
        summary="Formats that a model can be written in.",
        listed="the exporters, which write a model for another runtime: names for `dadkit export --to`",
        hook="register_exporters",
        target="Name formats for other runtimes. The target returns a ``dadkit.interfaces.Exporter``.",
        noun="exporter",
        has_space=False,
    ),
}
"""Kind of component -> everything that is said about it. The order is that of ``dadkit --help``."""
