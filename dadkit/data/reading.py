"""Read one batch at one position: pure, so that any process may do it and the answer is the same, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from dadkit.data.cutmix import CutMix, mix, part_bounds
from dadkit.data.sample import Batch, Dataset, Sample, SampleError
from dadkit.data.sampling import Mixture, derive, nth_in_order
from dadkit.data.views import Perturb, View, cut, stack
from dadkit.errors import DadkitError, DataError
from dadkit.interfaces import ContextSampler
from dadkit.spaces import Space

__all__ = ["BatchReader", "Member", "Reading"]

_MAX_ATTEMPTS = 100


@dataclass(frozen=True)
class Member:
    """One dataset of a mixture: its name (for messages), itself, its relative weight."""

    name: str
    dataset: Dataset
    weight: float = 1.0


@dataclass(eq=False)
class Reading:
    """What became of one batch.

    Attributes:
        batch: the batch; None if it could not be completed.
        reads: samples that were tried.
        failures: (name, reason) of each that could not be read.
        error: why the run cannot go on, or None. Kept here, since an exception raised in a worker loses its shape on the way.
    """

    batch: Batch | None = None
    reads: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    error: DadkitError | None = None

    def pin_memory(self) -> Reading:
        """The batch in page-locked memory; called by torch's DataLoader."""
        if self.batch is None:
            return self
        pinned: dict[str, Any] = {name: tensor.pin_memory() for name, tensor in self.batch.tensors()}
        if self.batch.student_images is self.batch.images:
            pinned["student_images"] = pinned["images"]
        return replace(self, batch=replace(self.batch, **pinned))


class BatchReader:
    """Maps a position to the batch of the ``batch_size`` samples from there on, or to a share of it.

    Everything about the sample at position p (which one, its contexts, its mirroring, its perturbation) depends on
    (seed, name, p) only. As a map-style dataset over positions it plugs into torch's DataLoader.

    Args:
        members: the datasets of the mixture.
        contexts: where student and teacher look.
        batch_size: samples per batch.
        seed, name: the run's seed, and the stream's name.
        flip: probability of mirroring.
        labelled: depth is required (True) or dropped (False).
        patches: keep the patches, or leave them out.
        space: depth is converted to this space; None leaves it.
        perturb: makes the student's view.
        cutmix: pastes rectangles between the student's views of a batch.
        share: (index, count): read only the ``index``-th of ``count`` parts of each batch, which other processes complete.
            CutMix's pairs are not parted.
    """

    def __init__(
        self,
        members: Sequence[Member],
        contexts: ContextSampler,
        *,
        batch_size: int,
        seed: int,
        name: str,
        flip: float,
        labelled: bool,
        patches: bool,
        space: Space | None,
        perturb: Perturb | None,
        cutmix: CutMix | None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.members, self.contexts = _named_apart(members), contexts
        index, count = share
        bounds = [batch_size * part // count for part in range(count + 1)] if cutmix is None else part_bounds(batch_size, count)
        self.share = range(bounds[index], bounds[index + 1])
        self.seed, self.name, self.flip = seed, name, flip
        self.labelled, self.patches, self.space, self.perturb, self.cutmix = labelled, patches, space, perturb, cutmix
        self._mixture = Mixture([member.weight for member in members])

    def __getitem__(self, position: int) -> Reading:
        reading = Reading()
        try:
            views = [self._view(position + place, reading) for place in self.share]
            reading.batch = self._mixed(stack(views), position + self.share.start)
        except DadkitError as error:
            reading.error = error
        return reading

    def _mixed(self, batch: Batch, position: int) -> Batch:
        if self.cutmix is None:
            return batch
        positions = range(position, position + len(batch))
        seeds = [derive(self.seed, self.name, "cutmix", p) for p in positions]
        return mix(batch, self.cutmix, [torch.Generator().manual_seed(seed) for seed in seeds])

    def _view(self, position: int, reading: Reading) -> View:
        source, number = self._mixture(position)
        sample = self._sample(self.members[source], source, number, reading)
        generator = torch.Generator().manual_seed(derive(self.seed, self.name, "item", position))
        flip = torch.rand((), generator=generator).item() < self.flip
        height, width = sample.image.shape[-2:]
        contexts = self.contexts((height, width), generator)
        if not self.patches:
            contexts = replace(contexts, patches=contexts.patches[:0])
        return cut(sample, contexts, flip=flip, space=self.space, perturb=self.perturb, generator=generator)

    def _sample(self, member: Member, source: int, number: int, reading: Reading) -> Sample:
        """The ``number``-th sample of a dataset, or the next readable one in its order."""
        seed = derive(self.seed, self.name, "order", source)
        size = len(member.dataset)
        attempts = min(size, _MAX_ATTEMPTS)
        for skip in range(attempts):
            index = nth_in_order(number, size, seed, skip=skip)
            reading.reads += 1
            try:
                sample = member.dataset[index]
            except SampleError as error:
                reading.failures.append((self._name(member, index), str(error)))
                continue
            return self._with_labels(sample, member)
        raise DataError(
            f"dataset '{member.name}': {attempts} samples in a row could not be read, the last {reading.failures[-1][0]}: "
            f"{reading.failures[-1][1]}"
        )

    def _with_labels(self, sample: Sample, member: Member) -> Sample:
        if not self.labelled:
            return replace(sample, depth=None, valid=None, space=None)
        if sample.depth is None:
            raise DataError(f"dataset '{member.name}' stands under labelled data, but {sample.key!r} has no depth")
        return sample

    def _name(self, member: Member, index: int) -> str:
        key = getattr(member.dataset, "key", None)  # optional: a dataset that knows its keys without reading
        inside = key(index) if callable(key) else str(index)
        return inside if len(self.members) == 1 else f"{member.name}/{inside}"


def _named_apart(members: Sequence[Member]) -> tuple[Member, ...]:
    """The members, numbered from the second of one name on: two datasets ``images`` must not share a name in the account."""
    names = [member.name for member in members]
    counts = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return tuple(
        replace(member, name=f"{member.name}#{count}") if count > 1 else member
        for member, count in zip(members, counts, strict=True)
    )
