"""How steady a model is in films: frames in order with true depth, and for two of the numbers with cameras and poses.

A film is a folder of frames. Its predictions are aligned once, all frames together: an alignment of every frame would hide what
flickers.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.alignment.affine import factor, line
from dadkit.data.sample import Dataset, Sample
from dadkit.errors import DataError
from dadkit.evaluation.evaluate import answer_at, known_cameras_of
from dadkit.interfaces import DepthModel, known_cameras
from dadkit.spaces import Space

__all__ = ["FILM_METRICS", "FilmScore", "evaluate_films", "read_pose"]

FILM_METRICS = {
    "abs_rel": "AbsRel of all frames after one alignment of the film",
    "scale_spread": "standard deviation over frames of the log of the factor that would bring a frame's median to the truth",
    "tcc": "temporal change consistency: SSIM of the change from frame to frame with the truth's",
    "tae": "temporal alignment error in per cent: a frame's depth, moved by the pose, against the next frame's, and back",
    "opw": "warping error: change of the frame's normalised map along the true motion, where the colour stays",
}
"""Name of each number -> what it is. The first three need true depth, ``tae`` and ``opw`` cameras and poses too."""

_POINTS = 4096  # of a frame, for the alignment
_SEEN = 0.05  # a point is the same in two frames if its depth differs by less than this share
Pose = Callable[[str], Tensor | None]


@dataclass(frozen=True)
class FilmScore:
    """The numbers of one film: its folder, the number of its frames, name -> value for what could be measured."""

    film: str
    frames: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class _Frame:
    image: Tensor  # (3, H, W) in [0, 1]
    raw: Tensor  # (H, W), as the model answers
    depth: Tensor  # (H, W), aligned
    truth: Tensor  # (H, W) metres
    valid: Tensor  # (H, W) bool
    camera: Tensor | None  # (3, 3)
    pose: Tensor | None  # (4, 4) camera to world


def evaluate_films(
    model: DepthModel,
    dataset: Dataset,
    *,
    poses: Pose = lambda key: None,
    batch_size: int = 8,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[FilmScore]:
    """Measure one model on films.

    Args:
        model: any depth model; its own resizing policy is applied.
        dataset: samples with true metric depth. Consecutive ones whose keys have one parent folder are a film.
        poses: key -> (4, 4) camera to world in metres, None where it is not known.
        batch_size: frames per forward pass.
        limit: only the first so many samples.
        progress: called with the number of frames predicted after each batch.

    Returns:
        A score a film, in order. Films of one frame are left out. The predictions of one film wait in a temporary file.

    Raises:
        DataError: no film has two frames, or a frame lacks metric depth, or the frames of a film differ in size.

    Sources: ``tae``: Chen et al., Video Depth Anything (CVPR 2025), but the nearest surface wins where points meet. ``opw``:
    Wang et al., Neural Video Depth Stabilizer (ICCV 2023), with the motion of the true depth and pose in place of an optical
    flow, colours in [0, 1] and weights that sum to 1. ``tcc``: Li et al., Enforcing Temporal Consistency in Video Depth
    Estimation (ICCVW 2021).
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    keys = [dataset.key(i) if hasattr(dataset, "key") else dataset[i].key for i in range(count)]
    done, scores = 0, []
    for film, rows in groupby(range(count), lambda i: str(Path(keys[i]).parent)):
        indices = list(rows)
        if len(indices) < 2:
            continue
        with tempfile.TemporaryFile() as file:
            answers = _predict(model, dataset, indices, batch_size, file)
            for answer in answers:
                done += answer
                if progress is not None:
                    progress(done)
            frames = _frames(dataset, indices, model.spec.space, file, poses)
            scores.append(FilmScore(film, len(indices), _measure(frames)))
    if not scores:
        raise DataError("no film: two samples in a row whose keys have one parent folder are needed")
    return scores


def read_pose(path: Path) -> Tensor | None:
    """(4, 4) camera to world from a text file of 16 numbers, row by row; None if there is no such file.

    Raises:
        DataError: it holds something else.
    """
    if not path.is_file():
        return None
    try:
        pose = torch.from_numpy(np.loadtxt(path, dtype=np.float64)).reshape(4, 4)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"the pose {path} needs 16 numbers, camera to world: {error}") from error
    return pose if bool(pose.isfinite().all()) else None


def _predict(model: DepthModel, dataset: Dataset, indices: Sequence[int], batch_size: int, file: IO[bytes]) -> Iterator[int]:
    """Writes the answers one behind the other, float32 at the frames' size; yields numbers of frames."""
    size: tuple[int, int] | None = None
    for start in range(0, len(indices), batch_size):
        samples = [dataset[i] for i in indices[start : start + batch_size]]
        for sample in samples:
            if sample.depth is None or sample.space is not Space.METRIC:
                raise DataError(f"films need true metric depth; sample '{sample.key}' has none")
            own = (sample.depth.shape[-2], sample.depth.shape[-1])
            size = size or own
            if own != size:
                raise DataError(f"the frames of a film have one size; '{sample.key}' has another than the first")
        cameras = known_cameras_of(samples) if model.spec.takes_camera else None
        if model.needs_camera and (cameras is None or not bool(known_cameras(cameras).all())):
            raise DataError(
                f"frames such as '{samples[0].key}' have no camera, and {model.spec.name} has metres only with one: give the "
                "dataset's cameras (pairs: intrinsics), or the model's option fov"
            )
        answer = model.predict([s.image.float() / 255 for s in samples], cameras=cameras, batch_size=batch_size)
        assert size is not None
        depth = answer_at(answer, size).depth
        file.write(depth.float().cpu().numpy().tobytes())
        yield len(samples)


def _frames(dataset: Dataset, indices: Sequence[int], space: Space, file: IO[bytes], poses: Pose) -> Iterator[_Frame]:
    """The frames, aligned by what all of them say together."""
    file.seek(0)
    first = dataset[indices[0]]
    assert first.depth is not None
    shape = (len(indices), *first.depth.shape[-2:])
    raw = torch.from_numpy(np.fromfile(file, np.float32).reshape(shape))
    pairs = [_points(dataset[i], raw[k], space) for k, i in enumerate(indices)]
    x, y = (torch.cat(values) for values in zip(*pairs, strict=True))
    if len(x) < 2:
        raise DataError(f"no frame of the film of '{first.key}' has valid depth")
    far = 2 * float((1 / y if space is Space.DISPARITY else y).max())  # nothing is twice as far as what is farthest
    slope, shift = (1.0, 0.0) if space is Space.METRIC else factor(x, y) if space is Space.SCALE else line(x, y)
    for k, i in enumerate(indices):
        sample = dataset[i]
        truth, valid = _truth(sample)
        fitted = slope * raw[k].double() + shift
        depth = (1 / fitted.clamp(min=1 / far) if space is Space.DISPARITY else fitted).clamp(1e-3, far)
        yield _Frame(sample.image.float() / 255, raw[k], depth, truth, valid, sample.intrinsics, poses(sample.key))


def _truth(sample: Sample) -> tuple[Tensor, Tensor]:
    assert sample.depth is not None
    depth = sample.depth[0].double()
    valid = depth.isfinite() & (depth > 0)
    return depth, valid if sample.valid is None else valid & sample.valid[0]


def _points(sample: Sample, raw: Tensor, space: Space) -> tuple[Tensor, Tensor]:
    """Some valid pixels of a frame: the answer, and the truth in the answer's space."""
    truth, valid = _truth(sample)
    good = (valid & raw.isfinite()).flatten().nonzero()[:, 0]
    good = good[:: max(1, len(good) // _POINTS)]
    y = truth.flatten()[good]
    return raw.flatten()[good].double(), 1 / y if space is Space.DISPARITY else y


def _measure(frames: Iterator[_Frame]) -> dict[str, float]:
    lists: dict[str, list[float]] = {name: [] for name in FILM_METRICS}
    last: _Frame | None = None
    for frame in frames:
        if bool(frame.valid.any()):
            p, g = frame.depth[frame.valid], frame.truth[frame.valid]
            lists["abs_rel"].append(float(((p - g).abs() / g).mean()))
            lists["scale_spread"].append(math.log(float(g.median() / p.median())))
        if last is not None:
            for name, value in _pair(last, frame):
                lists[name].append(value)
        last = frame
    spread = torch.tensor(lists.pop("scale_spread"), dtype=torch.float64)
    metrics = {name: math.fsum(values) / len(values) for name, values in lists.items() if values}
    return metrics | {"scale_spread": float(spread.std(correction=0))}


def _pair(last: _Frame, frame: _Frame) -> Iterator[tuple[str, float]]:
    both = last.valid & frame.valid
    if bool(both.any()):
        said, true = (last.depth - frame.depth).abs(), (last.truth - frame.truth).abs()
        peak = float(torch.maximum(last.truth[both].max(), frame.truth[both].max()))
        yield "tcc", float(_ssim(said.where(both, 0.0), true.where(both, 0.0), peak)[both].mean())
    if last.camera is None or frame.camera is None or last.pose is None or frame.pose is None:
        return
    errors = [error for error in (_tae(last, frame), _tae(frame, last)) if error is not None]
    if errors:
        yield "tae", 100 * sum(errors) / len(errors)
    warped = _opw(last, frame)
    if warped is not None:
        yield "opw", warped


def _moved(depth: Tensor, source: _Frame, target: _Frame) -> tuple[Tensor, Tensor]:
    """Returns where the pixels of ``source`` at ``depth`` lie in ``target``: (H, W, 2) pixels, and (H, W) depth there."""
    assert source.camera is not None
    assert target.camera is not None
    assert source.pose is not None
    assert target.pose is not None
    height, width = depth.shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).double().flatten(1)
    points = torch.linalg.inv(source.camera.double()) @ pixels * depth.flatten()
    move = torch.linalg.inv(target.pose) @ source.pose
    there = move[:3, :3] @ points + move[:3, 3:]
    z = there[2]
    seen = target.camera.double() @ there
    at = (seen[:2] / z.where(z > 0, torch.nan)).T
    return at.reshape(height, width, 2), z.reshape(height, width)


def _tae(source: _Frame, target: _Frame) -> float | None:
    """Mean of |d - projected| / d over the pixels of ``target`` on which a point of ``source`` falls; None if none does."""
    at, z = _moved(source.depth, source, target)
    height, width = z.shape
    inside = (z > 0) & (at[..., 0] >= 0) & (at[..., 0] < width) & (at[..., 1] >= 0) & (at[..., 1] < height)
    cell = at[inside].floor().long()
    flat = z.new_full((height * width,), torch.inf)
    flat.scatter_reduce_(0, cell[:, 1] * width + cell[:, 0], z[inside], "amin")
    there = flat.view(height, width)
    hit = there.isfinite()
    if not bool(hit.any()):
        return None
    return float(((target.depth - there).abs() / target.depth)[hit].mean())


def _opw(last: _Frame, frame: _Frame) -> float | None:
    """Mean change of the normalised map along the true motion, weighed by how the colour stays; None if none is seen."""
    at, z = _moved(frame.truth.where(frame.valid, 1.0), frame, last)
    height, width = z.shape
    grid = (2 * at / torch.tensor([width, height]) - 1)[None].float()
    pair = torch.cat([last.image, _normal(last.raw)[None], last.truth.float()[None]])
    moved = F.grid_sample(pair[None].float(), grid.nan_to_num(2.0), mode="bilinear", align_corners=False)[0]
    inside = (grid[0].abs() < 1).all(-1) & frame.valid & (z > 0)
    seen = inside & ((moved[4] - z).abs() < _SEEN * z)  # not hidden in the other frame
    weight = torch.exp(-50 * (frame.image - moved[:3]).square().sum(0)) * seen
    total = float(weight.sum())
    return float((weight * (_normal(frame.raw) - moved[3]).abs()).sum()) / total if total > 0 else None


def _normal(raw: Tensor) -> Tensor:
    centred = raw - raw.median()
    return centred / centred.abs().mean().clamp(min=1e-12)


def _ssim(a: Tensor, b: Tensor, peak: float) -> Tensor:
    """(H, W): structural similarity in windows of 7 x 7 (Wang et al., 2004, with plain means)."""
    maps = torch.stack([a, b, a * a, b * b, a * b])[:, None]
    mean = F.avg_pool2d(F.pad(maps, (3, 3, 3, 3), mode="reflect"), 7, stride=1)[:, 0]
    mu_a, mu_b = mean[0], mean[1]
    var_a, var_b, both = mean[2] - mu_a**2, mean[3] - mu_b**2, mean[4] - mu_a * mu_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    return (2 * mu_a * mu_b + c1) * (2 * both + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
