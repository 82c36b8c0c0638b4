"""Video in, video out: every frame in order, all on the same colour limits. Needs PyAV: ``dadkit[video]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dadkit import pictures
from dadkit.errors import DadkitError, DataError
from dadkit.files import atomic_path
from dadkit.interfaces import DepthModel, Prediction
from dadkit.prediction.camera import Lens, check_cloud, given_cameras
from dadkit.prediction.outputs import CLOUDS, MOVING, write_one
from dadkit.spaces import Space

__all__ = ["Steady", "predict_video"]

_PROBES = 24


def predict_video(
    model: DepthModel,
    path: Path,
    stem: Path,
    *,
    name: str,
    formats: Sequence[str],
    batch_size: int = 1,
    lens: Lens | None = None,
    steady: bool = False,
    note: Callable[[str], None] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> list[Path]:
    """Predict every frame of a video, upright as players show it.

    ``color`` and ``side`` become videos with the source's frame rate and size (an odd side loses its last pixel); other formats
    become ``stem/000000.<format>`` and so on. The limits of the colours are those of up to 24 frames taken evenly, the
    same for all frames: what flickers is the model. A film of variable frame rate keeps the times of its frames; sound is left
    out. Memory is that of one batch.

    Args:
        model: its own resizing policy is applied to each frame.
        path: the video.
        stem: path of the results, without ending.
        name: the model's name, stored in files that can hold it.
        formats: out of :data:`dadkit.prediction.FORMATS`.
        batch_size: consecutive frames per forward pass.
        lens: focal length and scale, for point clouds.
        steady: bring each map to the one before by scale and shift (:class:`dadkit.prediction.video.Steady`).
        note: called with what a person should know: that sound is left out, what ``steady`` changed.
        progress: called with (frames done, frames in all or None if the file does not say).

    Returns:
        The written videos and folders.

    Raises:
        DataError: the file cannot be read as a video, or has no frame.
        DadkitError: PyAV is not installed.
    """
    av = _pyav()
    if set(formats) & set(CLOUDS):
        check_cloud(model.spec.space, lens or Lens())
    rate, total, sound = _facts(av, path)
    times = _times(av, path)
    note = note or (lambda text: None)
    if sound:
        note("sound is left out")
    if times is not None:
        note("variable frame rate: every frame keeps its time")
    align = Steady(model.spec.space) if steady else None
    limits = _limits(av, model, path, total, batch_size, lens)
    still = [kind for kind in formats if kind not in MOVING]
    written = [stem.with_name(stem.name + MOVING[kind]) for kind in formats if kind in MOVING]
    done = 0
    with ExitStack() as stack:
        writers = {
            kind: stack.enter_context(_Writer(av, stack.enter_context(atomic_path(target)), rate, times))
            for kind, target in zip([kind for kind in formats if kind in MOVING], written, strict=True)
        }
        for frames, prediction in _predicted(model, _frames(av, path), batch_size, lens):
            if align is not None:
                prediction = replace(prediction, depth=torch.stack([align(depth) for depth in prediction.depth]))
            for index, frame in enumerate(frames):
                depth = prediction.depth[index]
                colored = pictures.colorize(depth, space=prediction.space, limits=limits)
                for kind, writer in writers.items():
                    writer.add(colored if kind == "color" else np.concatenate([pictures.to_uint8(frame), colored], axis=1))
                if still:
                    write_one(stem / f"{done:06d}", frame, prediction, index, formats=still, model=name, lens=lens)
                done += 1
            if progress is not None:
                progress(done, total)
    if done == 0:
        raise DataError(f"{path} has no frame that can be decoded")
    if align is not None:
        note(align.summary())
    return written + ([stem] if still else [])


class _Writer:
    """An MP4 file. Its stream begins with the first frame, which decides the size."""

    def __init__(self, av: ModuleType, path: Path, rate: Fraction, times: _Times | None) -> None:
        self._av, self._rate, self._times, self._count = av, rate, times, 0
        self._container: Any = av.open(str(path), "w", format="mp4")
        self._stream: Any = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def add(self, picture: pictures.Picture) -> None:
        even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]  # 4:2:0 colour has half the pixels
        if self._stream is None:
            codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(codec, rate=self._rate)
            self._stream.width, self._stream.height = even.shape[1], even.shape[0]
            self._stream.pix_fmt = "yuv420p"
            if codec == "libx264":
                self._stream.options = {"crf": "18"}
            else:
                self._stream.bit_rate = 8_000_000
            if self._times is not None:
                self._stream.codec_context.time_base = self._times.base
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        if self._times is not None:
            frame.pts, frame.time_base = self._times.stamps[min(self._count, len(self._times.stamps) - 1)], self._times.base
        self._count += 1
        self._container.mux(self._stream.encode(frame))


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise DadkitError("videos need the package PyAV: pip install 'dadkit[video]'") from error
    module: ModuleType = av
    return module


@dataclass(frozen=True)
class _Times:
    """When the frames of a film of variable rate are shown, in units of ``base`` seconds."""

    base: Fraction
    stamps: list[int]


def _times(av: ModuleType, path: Path) -> _Times | None:
    """The times of the frames if their distances differ by more than rounding, else None. Reads no pixels."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        base = Fraction(stream.time_base)
    steps = np.diff(found)
    if len(steps) < 2 or steps.max() - steps.min() <= max(2, 0.2 * float(np.median(steps))):
        return None
    return _Times(base, [stamp - found[0] for stamp in found])


def _facts(av: ModuleType, path: Path) -> tuple[Fraction, int | None, bool]:
    """Frames a second, how many frames the file says it has, and whether it has sound."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} holds no video")
            stream = container.streams.video[0]
            return Fraction(stream.average_rate or 25), stream.frames or None, bool(container.streams.audio)
    except av.error.FFmpegError as error:
        raise DataError(f"cannot read {path} as a video: {error}") from error


def _frames(av: ModuleType, path: Path) -> Iterator[Tensor]:
    """(3, H, W) uint8, in the order of presentation."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        try:
            for frame in container.decode(video=0):
                turns = round(getattr(frame, "rotation", 0) / 90)  # counter-clockwise, as the file says it is to be shown
                pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                yield torch.from_numpy(pixels).permute(2, 0, 1)
        except av.error.FFmpegError as error:
            raise DataError(f"{path} is damaged: {error}") from error


def _predicted(
    model: DepthModel, frames: Iterator[Tensor], size: int, lens: Lens | None = None
) -> Iterator[tuple[list[Tensor], Prediction]]:
    def ask(batch: list[Tensor]) -> Prediction:
        cameras = None
        if model.spec.takes_camera:
            cameras = given_cameras(lens, (batch[0].shape[-2], batch[0].shape[-1]), [None] * len(batch))
        return model.predict([one.float() / 255 for one in batch], cameras=cameras, batch_size=size)

    batch: list[Tensor] = []
    for frame in frames:
        if batch and (len(batch) == size or frame.shape != batch[0].shape):
            yield batch, ask(batch)
            batch = []
        batch.append(frame)
    if batch:
        yield batch, ask(batch)


def _limits(
    av: ModuleType, model: DepthModel, path: Path, total: int | None, size: int, lens: Lens | None = None
) -> tuple[float, float]:
    """The middle of the limits of some frames taken evenly."""
    every = max(1, (total or 0) // _PROBES)
    probes = (frame for number, frame in enumerate(_frames(av, path)) if number % every == 0 and number // every < _PROBES)
    found = [
        pictures.percentile_limits(pictures.nearness(depth, prediction.space))
        for _, prediction in _predicted(model, probes, size, lens)
        for depth in prediction.depth
    ]
    if not found:
        raise DataError(f"{path} has no frame that can be decoded")
    low, high = np.median(np.array(found), axis=0)
    return float(low), float(high)


_SAMPLES = 20_000


class Steady:
    """Brings each map to the one before it.

    Scale and shift are those of least squares over at most 20,000 pixels, fitted again without the fifth that fits worst: what
    moves. Of a metric map only the scale is fitted. A fit whose scale is outside 1/2 to 2, as at a cut, is not used: the film
    goes on from that frame. What is kept of the past is one map, so drift over long films is possible.

    Args:
        space: of the maps.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._last: Tensor | None = None
        self._raw: Tensor | None = None
        self._before: list[float] = []
        self._after: list[float] = []

    def __call__(self, depth: Tensor) -> Tensor:
        """The map (1, H, W), aligned to the last one that was given."""
        step = max(1, int((depth.numel() / _SAMPLES) ** 0.5))
        raw = depth[0, ::step, ::step].double().cpu().flatten()
        scale, shift = 1.0, 0.0
        if self._last is not None and self._raw is not None and self._last.shape == raw.shape:
            scale, shift = self._fit(raw, self._last)
            spread = float((self._raw - self._raw.mean()).abs().mean()) or 1.0
            self._before.append(float((raw - self._raw).abs().mean()) / spread)
            self._after.append(float((scale * raw + shift - self._last).abs().mean()) / spread)
        self._last, self._raw = scale * raw + shift, raw
        return depth * scale + shift

    def summary(self) -> str:
        """The change from frame to frame before and after, in parts of a map's mean absolute deviation."""
        count = max(1, len(self._before))
        before, after = sum(self._before) / count, sum(self._after) / count
        return f"steady: mean change from frame to frame {before:.4f} before, {after:.4f} after (1 = a map's mean deviation)"

    def _fit(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        keep = torch.isfinite(x) & torch.isfinite(y)
        scale, shift = 1.0, 0.0
        for _ in range(2):
            a, b = x[keep], y[keep]
            if a.numel() < 16:
                return 1.0, 0.0
            if self.space is Space.METRIC:
                scale, shift = float((a * b).sum() / (a * a).sum().clamp(min=1e-30)), 0.0
            else:
                centred = a - a.mean()
                scale = float((centred * (b - b.mean())).sum() / (centred**2).sum().clamp(min=1e-30))
                shift = float(b.mean() - scale * a.mean())
            error = (scale * x + shift - y).abs()
            keep = keep & (error <= torch.quantile(error[keep], 0.8))
        return (scale, shift) if 0.5 <= scale <= 2 else (1.0, 0.0)
