"""A look at a dataset before training: what is in it, what would be skipped and why, what is there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dadkit import pictures
from dadkit.data.sample import Dataset, Sample
from dadkit.errors import SampleError
from dadkit.report.page import Picture, Table, picture, plot, write_page
from dadkit.spaces import Space

__all__ = ["Inspection", "inspect_data", "write_inspection"]

_SHOWN = 12
_SIDE = 200
_PIXELS = 10_000
"""So many depths of an image enter the histogram."""
_NEAR = 3
"""Bits of 64 in which the fingerprints of near-duplicates differ at most."""


@dataclass(eq=False)
class Inspection:
    """What was found in the samples that were looked at.

    Attributes:
        name: the dataset's name.
        count: its samples.
        looked: how many were looked at, evenly spread over it.
        skipped: (name, reason) of those that cannot be read.
        sizes: (width, height) -> samples.
        grey: samples without colour.
        nearly_constant: keys of images in which almost nothing is to be seen.
        space: of the depth; None if there is none.
        valid: share of valid pixels of each labelled sample.
        sky: share of pixels at infinity of each labelled sample.
        depths: a sample of the finite valid depths.
        twins: groups of keys of images that look the same.
        shown: a few samples, for pictures.
    """

    name: str
    count: int
    looked: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    grey: int = 0
    nearly_constant: list[str] = field(default_factory=list)
    space: Space | None = None
    valid: list[float] = field(default_factory=list)
    sky: list[float] = field(default_factory=list)
    depths: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    twins: list[list[str]] = field(default_factory=list)
    shown: list[Sample] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Returns the findings as plain data, for people and programs."""
        sizes = [f"{width} x {height}: {count}" for (width, height), count in self.sizes.most_common(5)]
        if len(self.sizes) > 5:
            sizes.append(f"{len(self.sizes) - 5} other sizes")
        facts: dict[str, Any] = {
            "samples": self.count,
            "looked at": self.looked,
            "sizes": sizes,
            "modes": f"{sum(self.sizes.values()) - self.grey} colour, {self.grey} grey",
            "would be skipped": len(self.skipped),
        }
        if self.space is not None and self.valid:
            unit = " m" if self.space is Space.METRIC else ""
            low, median, high = np.percentile(self.depths, [1, 50, 99]) if self.depths.size else [np.nan] * 3
            facts |= {
                "space": str(self.space),
                "valid pixels": f"{np.mean(self.valid):.1%} on average, {min(self.valid):.1%} at least",
                "sky": f"{np.mean(self.sky):.1%} of the pixels",
                "depth": f"median {median:.4g}{unit}, 1 % below {low:.4g}{unit}, 1 % above {high:.4g}{unit}",
            }
        return facts | {"near-duplicates": sum(len(group) - 1 for group in self.twins), "doubts": self.doubts()}

    def doubts(self) -> list[str]:
        """Returns what a person should look at before training, a sentence each."""
        doubts = []
        if self.skipped and len(self.skipped) > 0.2 * self.looked:
            doubts.append("more than a fifth cannot be read; data.max_error_rate stops a run at 0.2")
        if self.nearly_constant:
            doubts.append(f"{len(self.nearly_constant)} images are nearly constant, the first {self.nearly_constant[0]}")
        if self.valid and np.mean(self.valid) < 0.05:
            doubts.append("fewer than 5 % of the pixels have a depth: use large views (contexts.options.view_size)")
        if self.space is Space.METRIC and self.depths.size:
            median = float(np.median(self.depths))
            if not 0.02 <= median <= 300:
                doubts.append(f"the median depth is {median:.4g} m: is scale missing, or wrong?")
        if self.depths.size and float(self.depths.min()) == float(self.depths.max()):
            doubts.append("all depths are equal")
        if self.twins:
            doubts.append(f"{self.twins[0][0]} and {self.twins[0][1]} look the same; keep such images out of a test set")
        return doubts


def inspect_data(
    name: str, dataset: Dataset, *, limit: int | None = 1000, progress: Callable[[int], None] | None = None
) -> Inspection:
    """Look at a dataset.

    Args:
        name: what it is called.
        dataset: any dataset.
        limit: how many samples are looked at, evenly spread over the dataset; None = all.
        progress: called with the number of samples done.

    Returns:
        The findings. Images are near-duplicates if their 64-bit difference hashes differ in at most 3 bits.
    """
    found = Inspection(name, len(dataset))
    count = len(dataset) if limit is None else min(limit, len(dataset))
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist() if count else []
    shown = set(np.linspace(0, count - 1, min(_SHOWN, count)).round().astype(int).tolist())
    hashes, keys, depths = [], [], []
    for number, index in enumerate(indices):
        found.looked += 1
        try:
            sample = dataset[index]
        except SampleError as error:
            key = getattr(dataset, "key", None)
            found.skipped.append((key(index) if callable(key) else str(index), str(error)))
            continue
        finally:
            if progress is not None:
                progress(number + 1)
        found.sizes[sample.image.shape[2], sample.image.shape[1]] += 1
        found.grey += bool((sample.image == sample.image[:1]).all())
        small = F.interpolate(sample.image[None].float().mean(1, keepdim=True), (8, 9), mode="bilinear", antialias=True)[0, 0]
        if float(sample.image.float().std()) < 3:
            found.nearly_constant.append(sample.key)  # its hash would say nothing
        else:
            hashes.append(int((small[:, 1:] > small[:, :-1]).flatten().long().dot(_BITS).item()) & (2**64 - 1))
            keys.append(sample.key)
        if sample.depth is not None:
            depths.append(_look_at_depth(sample.depth, sample.valid, found))
            found.space = sample.space
        if number in shown:
            found.shown.append(_smaller(sample))
    found.depths = np.concatenate(depths) if depths else found.depths
    found.twins = _twins(np.array(hashes, np.uint64), keys)
    return found


_BITS = torch.tensor([1 << bit if bit < 63 else -(1 << 63) for bit in range(64)])


def write_inspection(path: Path, found: Sequence[Inspection]) -> Path:
    """Write a page with the findings, histograms and pictures; it loads nothing from anywhere."""
    sections = []
    for one in found:
        facts = {key: value for key, value in one.facts().items() if key != "doubts"}
        reasons = Table(("sample", "reason"), one.skipped[:50], wide=True) if one.skipped else None
        twins = [", ".join(group) for group in one.twins[:20]]
        sections.append(
            {
                "name": one.name,
                "facts": facts,
                "doubts": one.doubts(),
                "skipped": reasons,
                "more": len(one.skipped) - 50,
                "twins": twins,
                "histogram": _histogram(one) if one.depths.size else None,
                "pictures": _pictures(one),
            }
        )
    names = ", ".join(one.name for one in found)
    return write_page(path, "inspection.html", title=f"dadkit inspect: {names}", subtitle="before training", sections=sections)


def _look_at_depth(depth: Tensor, valid: Tensor | None, found: Inspection) -> NDArray[np.float32]:
    known = torch.ones_like(depth, dtype=torch.bool) if valid is None else valid
    sky = known & depth.isinf()
    found.valid.append(float(known.float().mean()))
    found.sky.append(float(sky.float().mean()))
    values = depth[known & ~sky]
    step = max(1, -(-values.numel() // _PIXELS))
    return np.asarray(values[::step].numpy(), dtype=np.float32)


def _smaller(sample: Sample) -> Sample:
    """Returns the sample with every k-th pixel, so that pictures of many take no memory."""
    step = max(1, -(-max(sample.image.shape[1:]) // _SIDE))
    cut = [None if one is None else one[:, ::step, ::step].clone() for one in (sample.image, sample.depth, sample.valid)]
    assert cut[0] is not None
    return Sample(cut[0], sample.key, cut[1], cut[2], sample.space)


def _twins(hashes: NDArray[np.uint64], keys: Sequence[str]) -> list[list[str]]:
    left = np.ones(len(keys), dtype=bool)
    groups = []
    for index in range(len(keys)):
        if not left[index]:
            continue
        bits = np.unpackbits((hashes[index:] ^ hashes[index])[:, None].view(np.uint8), axis=1).sum(1)
        same = index + np.flatnonzero((bits <= _NEAR) & left[index:])
        if len(same) > 1:
            groups.append([keys[place] for place in same.tolist()])
            left[same] = False
    return groups


def _histogram(one: Inspection) -> Any:
    figure = Figure(figsize=(7, 2.4))
    axes = figure.add_subplot()
    top = float(np.percentile(one.depths, 99.5))
    axes.hist(one.depths, bins=60, range=(float(min(one.depths.min(), 0)), top if top > 0 else 1.0))
    axes.set_xlabel("depth (m)" if one.space is Space.METRIC else f"{one.space}, stored numbers")
    axes.set_ylabel("pixels")
    figure.tight_layout()
    return plot(figure)


def _pictures(one: Inspection) -> list[Picture]:
    found = []
    for sample in one.shown:
        tiles = [pictures.to_uint8(sample.image)]
        caption = f"{sample.key}, every few pixels"
        if sample.depth is not None and sample.space is not None:
            tiles.append(pictures.colorize(sample.depth, space=sample.space, valid=sample.valid))
            caption += "; near is warm, grey is unknown"
        found.append(picture(np.concatenate(tiles, axis=1), caption))
    return found
