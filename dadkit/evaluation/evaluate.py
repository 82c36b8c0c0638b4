"""Run a model over a labelled dataset under one protocol: a row per image."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.data.ordinal import OrdinalSample
from dadkit.data.sample import Dataset, Sample
from dadkit.errors import DataError, SampleError
from dadkit.evaluation.cache import Row, RowCache
from dadkit.evaluation.completion import Completed, completed
from dadkit.evaluation.metrics import find_metric, ordinal_metrics
from dadkit.evaluation.protocol import Protocol, cut_frame
from dadkit.interfaces import DepthModel, Hints, Prediction, flip_camera, known_cameras, resize_camera
from dadkit.spaces import Space, convert

__all__ = [
    "Evaluation",
    "ImageScore",
    "answer",
    "answer_at",
    "collect",
    "evaluate",
    "known_cameras_of",
    "predict_under",
    "read_samples",
    "score_rows",
    "seen_under",
]


@dataclass(frozen=True)
class ImageScore:
    """The metrics of one image.

    Attributes:
        key: the sample's key.
        valid_pixels: how many pixels (or pairs of points) were measured.
        metrics: name -> value.
        camera: where the camera came from: ``data``, the dataset; ``exif``, the photograph; ``fov``, the model's option;
            ``model``, its own estimate; ``unknown``; empty for a model that has to do with no camera.
        reversed: whether the alignment's scale is negative: what the model calls near is far in the truth.
    """

    key: str
    valid_pixels: int
    metrics: Mapping[str, float]
    camera: str = ""
    reversed: bool = False


@dataclass(frozen=True)
class Evaluation:
    """One model under one protocol.

    Attributes:
        model: how the model is called in the table.
        protocol: the protocol's name.
        images: a score per image that had valid pixels.
        skipped: images without enough valid pixels, or which could not be read: key and reason.
        failed: keys of images on which the model's answer was not finite; they are in no mean, so look at them.
        crop, floor: the protocol's, in a few characters, to be printed in each row.
    """

    model: str
    protocol: str
    images: list[ImageScore]
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    crop: str = "none"
    floor: str = "-"

    @property
    def mean(self) -> dict[str, float]:
        """Mean over images, each image counting once; images without a value for a metric are not in its mean."""
        columns = self.columns
        return {name: math.fsum(values) / len(values) if values else math.nan for name, values in columns.items()}

    @property
    def median(self) -> dict[str, float]:
        """Median over images: AbsRel after alignment in disparity has a heavy tail, and the mean follows it."""
        return {name: statistics.median(values) if values else math.nan for name, values in self.columns.items()}

    @property
    def columns(self) -> dict[str, list[float]]:
        """Name of a metric -> its values, of the images that have one."""
        names = self.images[0].metrics
        return {name: [i.metrics[name] for i in self.images if not math.isnan(i.metrics[name])] for name in names}

    @property
    def cameras(self) -> dict[str, int]:
        """Where cameras came from -> images, the most frequent first; empty for a model that has to do with none."""
        return dict(Counter(image.camera for image in self.images if image.camera).most_common())

    @property
    def doubt(self) -> str | None:
        """What is probably wrong with the data or the model, as a sentence; None if nothing shows.

        An alignment by scale and shift would hide that maps run the wrong way: its scale becomes negative.
        """
        turned = sum(image.reversed for image in self.images)
        if turned == 0 or 5 * turned < 4 * len(self.images):
            return None
        return (
            f"{self.model}: what it calls near is far in the true depth of {turned} of {len(self.images)} images. Is the truth "
            "disparity that was declared as depth, or the other way round; or does the model's file declare another space?"
        )


def evaluate(
    model: DepthModel,
    dataset: Dataset,
    protocol: Protocol,
    *,
    name: str,
    batch_size: int = 8,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    cache: RowCache | None = None,
) -> Evaluation:
    """Measure one model.

    The model sees each image through its own resizing policy (``predict``) and answers at the truth's size. Consecutive images
    of one size share a forward pass; the scores do not depend on ``batch_size`` beyond float rounding in the model.

    Args:
        model: any depth model in a space that the protocol can use. For a protocol with points a
            :class:`~dadkit.evaluation.completion.Completed`; any other model is completed by ``align``.
        dataset: labelled samples in metric space (in any that converts, for protocols of relative labels), or
            :class:`~dadkit.data.ordinal.OrdinalSample` for ordinal protocols.
        protocol: what is measured.
        name: the model's name in the table.
        batch_size: images per forward pass.
        limit: only the first so many samples.
        progress: called with the number of images done after each batch.
        cache: rows of an earlier run that was interrupted; they are not computed again.

    Raises:
        DataError: no image of the dataset could be scored, or its labels do not fit the protocol.
        dadkit.spaces.SpaceError: the model's space does not fit the protocol's.
    """
    indices = range(len(dataset) if limit is None else min(limit, len(dataset)))
    rows = score_rows(model, dataset, protocol, indices, batch_size=batch_size, progress=progress, cache=cache)
    return collect(name, protocol, rows)


def score_rows(
    model: DepthModel,
    dataset: Dataset,
    protocol: Protocol,
    indices: Sequence[int],
    *,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
    cache: RowCache | None = None,
) -> list[Row]:
    """Returns a row for each of ``indices``, in their order; arguments and errors as in :func:`evaluate`."""
    rows = {} if cache is None else {row.index: row for row in cache.read()}
    todo = [index for index in indices if index not in rows]
    done = len(indices) - len(todo)
    needs_camera = (model.model if isinstance(model, Completed) else model).needs_camera
    for items in _batches(_read(dataset, todo, protocol, needs_camera=needs_camera), batch_size):
        found = [item for item in items if isinstance(item, Row)]
        samples = [item for item in items if not isinstance(item, Row)]
        if samples:
            found += _score(model, samples, protocol, batch_size)
        if cache is not None:
            cache.append(found)
        rows |= {row.index: row for row in found}
        done += len(items)
        if progress is not None:
            progress(done)
    return [rows[index] for index in indices]


def collect(name: str, protocol: Protocol, rows: Iterable[Row]) -> Evaluation:
    """Rows of one model, in order, as an evaluation.

    Raises:
        DataError: no image was scored.
    """
    rows = list(rows)
    images = [ImageScore(row.key, row.pixels, row.metrics, row.camera, row.reversed) for row in rows if row.state == "scored"]
    skipped = [row.key for row in rows if row.state == "skipped"]
    failed = [row.key for row in rows if row.state == "failed"]
    if not images and failed:
        raise DataError(
            f"evaluation of '{name}' under '{protocol.name}': its answers are not finite on any of {len(failed)} images"
        )
    if not images:
        raise DataError(
            f"evaluation of '{name}' under '{protocol.name}': none of {len(skipped)} images has a valid pixel of true depth "
            f"within the protocol's limits; skipped: {'; '.join(skipped[:3])}"
        )
    return Evaluation(name, protocol.name, images, skipped, failed, protocol.crop_text, protocol.floor_text)


def read_samples(dataset: Dataset, limit: int | None, skipped: list[str]) -> Iterator[Sample]:
    """The first ``limit`` samples; the names of those that cannot be read are appended to ``skipped``."""
    for index in range(len(dataset) if limit is None else min(limit, len(dataset))):
        try:
            yield dataset[index]
        except SampleError as error:
            skipped.append(str(error))


def _read(
    dataset: Dataset, indices: Iterable[int], protocol: Protocol, *, needs_camera: bool
) -> Iterator[tuple[int, Sample] | Row]:
    for index in indices:
        try:
            sample = seen_under(protocol, dataset[index])
        except SampleError as error:
            yield Row(index, str(error), 0, {}, "skipped")
            continue
        if needs_camera and not _has_camera(sample):
            reason = "its camera is unknown, and the model has metres only with one, or with its option fov"
            yield Row(index, f"{sample.key}: {reason}", 0, {}, "skipped")
        else:
            yield index, sample


def seen_under(protocol: Protocol, sample: Sample) -> Sample:
    """Returns the sample as models see it: its frame is cut, and its points are those that a completer is given.

    Raises:
        SampleError: the protocol gives no point.
        DataError: the image is smaller than the frame, or the dataset has no points.
    """
    sample = cut_frame(sample, protocol.frame)
    return sample if protocol.points is None else protocol.points.given(sample)


def _batches(items: Iterator[tuple[int, Sample] | Row], size: int) -> Iterator[list[tuple[int, Sample] | Row]]:
    """Consecutive samples of one image size, at most ``size`` of them, with the unreadable ones between them."""
    batch: list[tuple[int, Sample] | Row] = []
    shape: torch.Size | None = None
    for item in items:
        own = None if isinstance(item, Row) else item[1].image.shape
        if len(batch) == size or (own is not None and shape is not None and own != shape):
            yield batch
            batch, shape = [], None
        batch.append(item)
        shape = shape if own is None else own
    if batch:
        yield batch


def _score(model: DepthModel, items: list[tuple[int, Sample]], protocol: Protocol, batch_size: int) -> list[Row]:
    samples = [sample for _, sample in items]
    truth = [truth_of(sample, protocol) for sample in samples]  # before the model runs, so that wrong data are an early error
    prediction, hints = answer(protocol, model, samples, batch_size=batch_size)
    if protocol.task == "ordinal":
        scored = _score_pairs(prediction, samples)
    else:
        scored = _score_depth(prediction, truth, protocol, hints)
    needed = [name for name in protocol.metrics if protocol.task == "ordinal" or not find_metric(name).partial]
    rows = []
    for (index, sample), (pixels, metrics, turned) in zip(items, scored, strict=True):
        if pixels < protocol.min_pixels:
            rows.append(Row(index, f"{sample.key}: {_too_few(sample, pixels, protocol)}", pixels, {}, "skipped"))
        elif all(math.isfinite(metrics[name]) for name in needed):
            kept = {name: metrics[name] for name in protocol.metrics}
            rows.append(Row(index, sample.key, pixels, kept, "scored", _camera_from(model, sample, prediction), turned))
        else:
            rows.append(Row(index, sample.key, pixels, {}, "failed"))
    return rows


def _too_few(sample: Sample, pixels: int, protocol: Protocol) -> str:
    """Returns why an image is skipped that could be read."""
    found = str(pixels or "no")
    if sample.depth is None:
        return f"{found} pairs of points"
    known = sample.depth.isfinite() if sample.valid is None else sample.valid & sample.depth.isfinite()
    if not known.any():
        return "no pixel of true depth is valid"
    low, high = float(sample.depth[known].min()), float(sample.depth[known].max())
    unit = " m" if sample.space is Space.METRIC else ""
    return f"true depth of {low:.5g} to {high:.5g}{unit} has {found} pixels that count ({protocol.truth_text})"


def _camera_from(model: DepthModel, sample: Sample, prediction: Prediction) -> str:
    """Returns where the camera came from by which ``model`` answered for ``sample``: the first that is known."""
    if model.spec.takes_camera:
        if _has_camera(sample):
            return sample.camera_from
        if model.fov is not None:
            return "fov"
        return "unknown" if prediction.intrinsics is None else "model"
    return "" if prediction.intrinsics is None else "model"


def _has_camera(sample: Sample) -> bool:
    return sample.intrinsics is not None and bool(known_cameras(sample.intrinsics))


def _score_depth(
    prediction: Prediction, truth: list[tuple[Tensor, Tensor]], protocol: Protocol, hints: Hints | None
) -> list[tuple[int, dict[str, float], bool]]:
    device = prediction.depth.device
    depth, valid = (torch.stack(tensors).to(device) for tensors in zip(*truth, strict=True))
    scores = protocol.score(prediction, depth, valid, hints)
    table = {name: values.tolist() for name, values in scores.metrics.items()}
    scales = None if scores.affine is None else scores.affine.scale
    turned = [False] * len(depth) if scales is None or scales.ndim != 1 else (scales < 0).tolist()
    return [
        (pixels, {name: values[index] for name, values in table.items()}, turned[index])
        for index, pixels in enumerate(scores.valid_pixels.tolist())
    ]


def _score_pairs(prediction: Prediction, samples: list[Sample]) -> list[tuple[int, dict[str, float], bool]]:
    scored = []
    for index, sample in enumerate(samples):
        assert isinstance(sample, OrdinalSample)
        assert sample.points is not None
        assert sample.nearer is not None
        one = Prediction(prediction.depth[index : index + 1], prediction.space)
        scored.append((len(sample.points), ordinal_metrics(one, sample.points, sample.nearer), False))
    return scored


def truth_of(sample: Sample, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """Returns depth in the protocol's ``truth_space`` and validity, (1, H, W) each; empty tensors for ordinal protocols."""
    if protocol.task == "ordinal":
        if not isinstance(sample, OrdinalSample) or sample.points is None:
            raise DataError(
                f"the protocol '{protocol.name}' needs annotated pairs of points, which sample '{sample.key}' has not; "
                "choose the dataset da-2k or diw, or a protocol for dense depth"
            )
        return torch.empty(0), torch.empty(0)
    if sample.depth is None or sample.space is None:
        raise DataError(f"evaluation needs true depth; sample '{sample.key}' has no depth. Choose a labelled dataset.")
    if sample.space is not Space.METRIC and protocol.labels == "metric":
        raise DataError(
            f"the protocol '{protocol.name}' needs true metric depth; sample '{sample.key}' has depth in space "
            f"'{sample.space}'. Choose a metric dataset, or the protocol relative-{sample.space}"
        )
    valid = torch.ones_like(sample.depth, dtype=torch.bool) if sample.valid is None else sample.valid
    depth, converted = convert(sample.depth, valid, sample.space, protocol.truth_space)
    return depth, valid if converted is None else converted


def answer(
    protocol: Protocol, model: DepthModel, samples: Sequence[Sample], *, batch_size: int
) -> tuple[Prediction, Hints | None]:
    """Returns a model's answer for samples of one size, and the points that it was given, if the protocol has some.

    With points, a model that is no :class:`~dadkit.evaluation.completion.Completed` is completed by ``align``.
    """
    images = [sample.image.float() / 255 for sample in samples]
    cameras = known_cameras_of(samples)
    whole = completed(model) if protocol.points is not None else None
    inner = model if whole is None else whole.model
    seen = cameras if inner.spec.takes_camera else None
    prediction = predict_under(protocol, inner, images, batch_size=batch_size, cameras=seen)
    if whole is None:
        return prediction, None
    device = prediction.depth.device
    given = [sample.hints for sample in samples]
    hints = Hints(
        torch.cat([h.depth for h in given if h is not None]).to(device),
        torch.cat([h.valid for h in given if h is not None]).to(device),
    )
    return whole.complete(torch.stack(images).to(device), hints, prediction, cameras), hints


def known_cameras_of(samples: Sequence[Sample]) -> Tensor | None:
    """(B, 3, 3) of the samples, NaN where a camera is not known; None if none is."""
    known = [sample.intrinsics for sample in samples]
    if all(camera is None for camera in known):
        return None
    return torch.stack([torch.full((3, 3), torch.nan) if camera is None else camera for camera in known])


def predict_under(
    protocol: Protocol, model: DepthModel, images: list[Tensor], *, batch_size: int, cameras: Tensor | None = None
) -> Prediction:
    """Returns the model's answer at the images' own size.

    Args:
        protocol: its ``resize`` and ``flip`` are applied.
        model: its own size policy is applied (``predict``).
        images: (3, H, W) float RGB in [0, 1], all of one size.
        batch_size: images per forward pass.
        cameras: (B, 3, 3) in pixels of the images, NaN = unknown; they follow both.
    """
    height, width = images[0].shape[-2:]
    seen = [_at_most(image, protocol.resize) for image in images]
    if cameras is not None:
        cameras = resize_camera(cameras, (height, width), seen[0].shape[-2:])
    prediction = answer_at(model.predict(seen, cameras=cameras, batch_size=batch_size), (height, width))
    if protocol.flip:
        turned = [image.flip(-1) for image in seen]
        moved = None if cameras is None else flip_camera(cameras, seen[0].shape[-1])
        mirrored = answer_at(model.predict(turned, cameras=moved, batch_size=batch_size), (height, width))
        both = prediction.valid
        if both is not None and mirrored.valid is not None:
            both = both & mirrored.valid.flip(-1)
        prediction = replace(prediction, depth=(prediction.depth + mirrored.depth.flip(-1)) / 2, valid=both, features={})
    return prediction


def _at_most(image: Tensor, longer: int | None) -> Tensor:
    height, width = image.shape[-2:]
    if longer is None or max(height, width) <= longer:
        return image
    scale = longer / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def answer_at(prediction: Prediction, size: tuple[int, int]) -> Prediction:
    """Returns the prediction at another size, bilinear; as it is where the size is its own."""
    if tuple(prediction.depth.shape[-2:]) == size:
        return prediction
    depth = F.interpolate(prediction.depth, size, mode="bilinear", align_corners=False)
    valid = prediction.valid
    if valid is not None:
        valid = F.interpolate(valid.to(torch.uint8), size, mode="nearest-exact").bool()
    return replace(prediction, depth=depth, valid=valid, features={}, intrinsics=None)
