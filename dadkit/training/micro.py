"""The data of one iteration, and how gradient accumulation cuts it into micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from dadkit.data.perturbations import part_bounds
from dadkit.data.sample import Batch

__all__ = ["Iteration", "micro_batches"]


@dataclass(frozen=True, eq=False)
class Iteration:
    """The images of one optimiser step: unlabelled ones, labelled ones, or both; or this process's share of them.

    Attributes:
        unlabelled, labelled: the images that are here.
        total: numbers of unlabelled and labelled images in the whole step, on all processes; None = those that are here.
        first: how many unlabelled images of the step come before these.
    """

    unlabelled: Batch | None
    labelled: Batch | None
    total: tuple[int, int] | None = None
    first: int = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of unlabelled and labelled images in the whole step."""
        return self.here if self.total is None else self.total

    @property
    def here(self) -> tuple[int, int]:
        """Numbers of unlabelled and labelled images in this process."""
        return len(self.unlabelled or ()), len(self.labelled or ())

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all samples."""
        return tuple(key for batch in (self.unlabelled, self.labelled) if batch is not None for key in batch.keys)

    def to(self, device: torch.device) -> Iteration:
        """The same on ``device``."""
        unlabelled, labelled = (None if batch is None else batch.to(device) for batch in (self.unlabelled, self.labelled))
        return replace(self, unlabelled=unlabelled, labelled=labelled)


def micro_batches(data: Iteration, count: int) -> Iterator[Iteration]:
    """``count`` parts of nearly equal size (a kind with fewer images than parts is missing from some of them).

    Every term is a mean over images, and the step weighs each part by its share of the iteration's images; so the parts'
    gradients add up to those of the whole, unless a model mixes the images of a batch (batch normalisation). Images that were
    mixed by CutMix stay together, which may leave a part empty.
    """
    first = data.first
    for index in range(count):
        unlabelled, labelled = _part(data.unlabelled, index, count), _part(data.labelled, index, count)
        part = Iteration(unlabelled, labelled, data.counts, first)
        first += part.here[0]
        if any(part.here):
            yield part


def _part(batch: Batch | None, index: int, count: int) -> Batch | None:
    if batch is None:
        return None
    if batch.pasted is None:
        start, stop = len(batch) * index // count, len(batch) * (index + 1) // count
    else:
        start, stop = part_bounds(len(batch), count)[index : index + 2]
    if start == stop:
        return None
    cut: dict[str, Any] = {name: tensor[start:stop] for name, tensor in batch.tensors()}
    if batch.student_images is batch.images:
        cut["student_images"] = cut["images"]
    return replace(batch, keys=batch.keys[start:stop], **cut)
