"""Films and cameras in, films out: every frame in order, all on the same colour limits. Needs PyAV: ``dadkit[video]``."""

from __future__ import annotations

import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from queue import Empty, Full, Queue
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dadkit import pictures
from dadkit.errors import DadkitError, DataError
from dadkit.files import atomic_path, really
from dadkit.interfaces import DepthModel, Prediction
from dadkit.prediction.camera import Lens, check_cloud, given_cameras
from dadkit.prediction.outputs import CLOUDS, MOVING, PROBES, shared_limits, write_one
from dadkit.prediction.steady import Steady

__all__ = ["predict_video"]

_PART = 100  # frames after which a film's results are safe from a kill
_HDR = (16, 18)  # of ITU-T H.273's transfer characteristics: PQ and HLG
_TIMEOUT = 20.0  # seconds without a frame after which a network stream counts as ended


def predict_video(
    model: DepthModel,
    path: str | Path,
    stem: Path,
    *,
    name: str,
    formats: Sequence[str],
    batch_size: int = 1,
    lens: Lens | None = None,
    steady: bool = False,
    live: bool = False,
    seconds: float | None = None,
    fingerprint: str | None = None,
    note: Callable[[str], None] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> list[Path]:
    """Predict every frame of a film as players show it: upright, and with square pixels.

    ``color`` and ``side`` become films with the source's frame rate and size (an odd side loses its last pixel); other formats
    become ``stem/000000.<format>`` and so on. The limits of the colours are those of up to 24 frames taken evenly, the
    same for all frames: what flickers is the model. A film of variable frame rate keeps the times of its frames; sound is left
    out. Memory is that of one batch.

    Every hundred frames what is done is kept in a hidden folder beside the results. A call with the same ``fingerprint`` goes
    on from there.

    Args:
        model: its own resizing policy is applied to each frame.
        path: the film, its address (``https://…``), or a camera (``rtsp://…``, ``/dev/video0``).
        stem: path of the results, without ending.
        name: the model's name, stored in files that can hold it.
        formats: out of :data:`dadkit.prediction.FORMATS`.
        batch_size: consecutive frames per forward pass.
        lens: focal length and scale, for point clouds.
        steady: bring each map to the one before by scale and shift (:class:`dadkit.prediction.steady.Steady`).
        live: the source does not wait: frames that arrive while the model is busy are dropped, and counted. The colours have
            the limits of the first frame. It ends with the source, after ``seconds``, or with Ctrl-C, and what there is then
            is a whole film.
        seconds: as much of the source is predicted; None = all.
        fingerprint: what the results are made of; None = no earlier call's results are used.
        note: called with what a person should know: that sound is left out, what ``steady`` changed.
        progress: called with (frames done, frames in all or None if the file does not say).

    Returns:
        The written films and folders.

    Raises:
        DataError: the source cannot be read as a film, or has no frame.
        DadkitError: PyAV is not installed.
    """
    if set(formats) & set(CLOUDS):
        check_cloud(model.spec.space, lens or Lens())
    note = note or (lambda text: None)
    film = _Film(_pyav(), str(path), live, seconds)
    if film.sound:
        note("sound is left out")
    if film.hdr:
        note("the film is in HDR, and its colours are taken as ordinary ones, which look pale: convert it for best results")
    if film.broken_off is not None:
        there, stated = film.broken_off
        note(f"it breaks off after {there:.1f} of {stated:.1f} s: the file was cut, or is still being written")
    if film.variable and not live:
        note("variable frame rate: every frame keeps its time")
    work = _Unfinished(stem, fingerprint)
    if work.frames:
        note(f"{work.frames} frames were finished before")
    align = Steady(model.spec.space) if steady else None
    if align is not None:
        align.state = work.steady
    limits = work.limits or (None if live else _limits(film, model, batch_size, lens))
    moving = [kind for kind in formats if kind in MOVING]
    still = [kind for kind in formats if kind not in MOVING]
    done = work.frames
    batches = _predicted(model, film.frames(work.frames), batch_size, lens)
    with _ended_by_interrupt(film):
        while batch := next(batches, None):
            with ExitStack() as stack:
                writers: dict[str, _Writer] = {}
                for frames, prediction in _until(batch, batches, _PART):
                    if align is not None:
                        prediction = replace(prediction, depth=torch.stack([align(depth) for depth in prediction.depth]))
                    limits = limits or shared_limits(prediction.depth[:1], prediction.space)
                    for kind in moving if not writers else ():
                        part = stack.enter_context(atomic_path(work.part(kind, frames[0].stamp)))
                        writers[kind] = stack.enter_context(_Writer(film, part, frames[0].stamp))
                    for index, frame in enumerate(frames):
                        colored = pictures.colorize(prediction.depth[index], space=prediction.space, limits=limits)
                        for kind, writer in writers.items():
                            side = (
                                np.concatenate([pictures.to_uint8(frame.pixels), colored], axis=1)
                                if kind == "side"
                                else colored
                            )
                            writer.add(side, frame.stamp)
                        if still:
                            place = stem / f"{done:06d}"
                            write_one(place, frame.pixels, prediction, index, formats=still, model=name, lens=lens)
                        done += 1
                    if progress is not None:
                        progress(done, film.total)
            work.keep(done, limits, align)
    if done == 0:
        raise DataError(f"{film.shown} has no frame that can be decoded")
    written = [_joined(film, work.parts(kind), stem.with_name(stem.name + MOVING[kind])) for kind in moving]
    work.clear()
    if film.damaged:
        note("damaged frames are left out")
    if film.dropped:
        note(f"{film.dropped} frames were dropped: the model is slower than the source")
    if align is not None:
        note(align.summary())
    return written + ([stem] if still else [])


@dataclass(frozen=True)
class _Frame:
    """(3, H, W) uint8, and when it is shown, in units of the film's ``base`` since its beginning."""

    pixels: Tensor
    stamp: int


class _Film:
    """What a source says of itself, and its frames.

    Attributes:
        rate: frames a second.
        total: how many frames there are, or None if that is not known.
        sound: True if it has any.
        hdr: True if its brightness is coded for displays of high dynamic range.
        variable: True if the distances of its frames differ by more than rounding.
        base: seconds of one unit of the frames' stamps.
        dropped: frames of a live source that were not predicted.
        stop: set, a live source ends.
        damaged: packets of which no frame could be decoded, so far.
        broken_off: seconds that are there and seconds that the file states, where the first are clearly fewer; else None.
        shown: the source in messages, without a password.
    """

    def __init__(self, av: ModuleType, path: str, live: bool, seconds: float | None) -> None:
        self.av, self._path, self.live, self._seconds = av, path, live, seconds
        self.shown = re.sub(r"//[^/@]*@", "//", path)
        self.dropped, self.stop = 0, threading.Event()
        self.damaged = 0
        self.broken_off: tuple[float, float] | None = None
        self._kept: Any = None  # a camera is opened once
        with self._reported():
            container = self._open()
            stream = container.streams.video[0]
            self.rate = Fraction(stream.average_rate or 25)
            self.total = stream.frames or None
            self.sound = bool(container.streams.audio)
            self._unit = Fraction(stream.time_base)
            self._shape = Fraction(stream.sample_aspect_ratio or 1)  # of a pixel, its width to its height
            self.hdr = int(getattr(stream.codec_context, "color_trc", 0) or 0) in _HDR
            self.variable = live or self._look_through(container, stream)
            if live:
                self._kept = container
            else:
                container.close()
        self.base = self._unit if self.variable else 1 / self.rate
        if seconds is not None and self.total is not None:
            self.total = min(self.total, int(seconds * self.rate) + 1)

    def _open(self) -> Any:
        device = {"format": "v4l2"} if self._path.startswith("/dev/") else {}
        patience = {"timeout": _TIMEOUT} if "://" in self._path else {}
        container = self.av.open(self._path, **device, **patience)
        if not container.streams.video:
            container.close()
            raise DataError(f"{self.shown} holds no video")
        return container

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (self.av.error.FFmpegError, ValueError) as error:
            raise DataError(f"cannot read {self.shown} as a video: {self._why(error)}") from error

    def _why(self, error: Exception) -> str:
        words = None if "://" in self._path or self._path.startswith("/dev/") else really(self._path)
        if words is not None and not words.startswith("a film"):
            return f"the file is {words}"
        if isinstance(error, self.av.error.EOFError):
            return "it ends before its first frame"
        if isinstance(error, self.av.error.InvalidDataError):
            if words is not None and "MP4" in words:
                return "the list of its frames, which comes last, is missing or damaged: a recording or a download broke off"
            return "FFmpeg knows no such format, or the file is damaged"
        return (getattr(error, "strerror", None) or str(error)).replace(self._path, self.shown)

    def frames(self, start: int = 0) -> Iterator[_Frame]:
        """In the order of presentation, without the first ``start``."""
        decoded = self._newest() if self.live else self._decoded(start)
        first: int | None = None
        for number, (pts, pixels) in enumerate(decoded):
            first = pts if first is None and pts is not None else first
            since = None if pts is None or first is None else pts - first
            if self._seconds is not None:
                shown = number / self.rate if since is None else since * self._unit
                if shown >= self._seconds:
                    return
            if number >= start and pixels is not None:
                yield _Frame(pixels, number if since is None or not self.variable else since)

    def _decoded(self, start: int = 0) -> Iterator[tuple[int | None, Tensor | None]]:
        with self._reported(), self._kept or self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(self._whole(container, stream)):
                if number < start:
                    yield frame.pts, None
                    continue
                square = frame.reformat(max(1, round(frame.width * self._shape)), frame.height, "rgb24")
                pixels = np.ascontiguousarray(_upright(square.to_ndarray(), frame.side_data))
                yield frame.pts, torch.from_numpy(pixels).permute(2, 0, 1)

    def _whole(self, container: Any, stream: Any) -> Iterator[Any]:
        """The frames that can be decoded; as players do, those that cannot are left out."""
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except self.av.error.InvalidDataError:
                self.damaged += 1

    def _newest(self) -> Iterator[tuple[int | None, Tensor | None]]:
        """The frames of a source that does not wait: a thread reads, and keeps the newest alone."""
        newest: Queue[Any] = Queue(1)

        def read() -> None:
            end: Exception | None = None
            try:
                for one in self._decoded():
                    if self.stop.is_set():
                        return
                    try:
                        newest.put_nowait(one)
                    except Full:
                        self.dropped += self._taken(newest)
                        newest.put(one)
            except Exception as error:  # it is raised where the frames are used
                end = error
            newest.put(end)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        started = False
        try:
            while not self.stop.is_set():
                try:
                    one = newest.get(timeout=0.2)
                except Empty:
                    continue
                if one is None or (started and isinstance(one, DataError)):
                    return  # a stream that breaks off has ended
                if isinstance(one, Exception):
                    raise one
                started = True
                yield one
        finally:
            self.stop.set()
            self._taken(newest)

    @staticmethod
    def _taken(queue: Queue[Any]) -> int:
        try:
            queue.get_nowait()
        except Empty:
            return 0
        return 1

    def _look_through(self, container: Any, stream: Any) -> bool:
        """Returns True if the distances of the frames vary; notes where the film breaks off. Reads no pixels."""
        stated = float(stream.duration * self._unit) if stream.duration else 0.0
        if not stated and not self.sound and container.duration:  # sound may be longer than the pictures
            stated = container.duration / self.av.time_base
        found = np.sort([packet.pts for packet in container.demux(stream) if packet.pts is not None])
        there = float((int(found[-1]) - int(found[0])) * self._unit + 1 / self.rate) if len(found) else 0.0
        if stated - there > max(0.5, 0.05 * stated):
            self.broken_off = there, stated
        steps = np.diff(found)
        return len(steps) > 1 and bool(steps.max() - steps.min() > max(2, 0.2 * float(np.median(steps))))


def _upright(pixels: np.ndarray, side_data: Any) -> np.ndarray:
    """(H, W, 3) as the film's display matrix shows it: turned by quarters, or mirrored, as front cameras do.

    The matrix is [[a, b, _], [c, d, _], …] in fixed point: column x and row y are shown at column ax + cy and row bx + dy.
    """
    matrix = next((data for data in side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return pixels
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32, 5)
    if abs(int(b)) > abs(int(a)):
        pixels, (a, d) = pixels.swapaxes(0, 1), (c, b)
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


class _Writer:
    """A part of an MP4 film, its times counted from its first frame, which decides the size."""

    def __init__(self, film: _Film, path: Path, start: int) -> None:
        self._film, self._start = film, start
        self._container: Any = film.av.open(str(path), "w", format="mp4")
        self._stream: Any = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._stream is not None and kind is None:
            with self._encoded():
                self._container.mux(self._stream.encode())
        self._container.close()

    @contextmanager
    def _encoded(self) -> Iterator[None]:
        try:
            yield
        except self._film.av.error.FFmpegError as error:
            size = f"{self._stream.width} x {self._stream.height} pixels"
            raise DataError(
                f"{self._film.shown}: {size} cannot be written as MP4 ({error.strerror}); --format npy writes frames"
            ) from error

    def add(self, picture: pictures.Picture, stamp: int) -> None:
        height, width = picture.shape[:2]
        whole = np.pad(picture, ((0, max(0, 2 - height)), (0, max(0, 2 - width)), (0, 0)), mode="edge")
        even = whole[: max(2, height // 2 * 2), : max(2, width // 2 * 2)]  # 4:2:0 colour has half the pixels
        if self._stream is None:
            codec = "libx264" if "libx264" in self._film.av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(codec, rate=self._film.rate)
            self._stream.width, self._stream.height = even.shape[1], even.shape[0]
            self._stream.pix_fmt = "yuv420p"
            if codec == "libx264":
                self._stream.options = {"crf": "18", "bf": "0"}  # frames in order, so that parts can be joined
            else:
                self._stream.bit_rate = 8_000_000
            self._stream.codec_context.time_base = self._film.base
        frame = self._film.av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        if (frame.width, frame.height) != (self._stream.width, self._stream.height):
            frame = frame.reformat(self._stream.width, self._stream.height)  # a source may change its size
        frame.pts, frame.time_base = stamp - self._start, self._film.base
        with self._encoded():
            self._container.mux(self._stream.encode(frame))


def _joined(film: _Film, parts: Sequence[Path], target: Path) -> Path:
    """One film of its parts, whose packets are copied."""
    with atomic_path(target) as temporary, film.av.open(str(temporary), "w", format="mp4") as whole:
        stream: Any = None
        for part in parts:
            start = int(part.stem.partition(".")[2])
            with film.av.open(str(part)) as container:
                source = container.streams.video[0]
                if stream is None:
                    copied = getattr(whole, "add_stream_from_template", None)  # PyAV 14 and newer
                    stream = copied(source) if copied else whole.add_stream(template=source)
                    stream.time_base = source.time_base
                for packet in container.demux(source):
                    if packet.dts is None:
                        continue
                    offset = round(start * film.base / packet.time_base)
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = stream
                    whole.mux(packet)
    return target


@dataclass
class _Unfinished:
    """What is done of a film, in a hidden folder beside its results until it is whole.

    Attributes:
        stem: path of the results, without ending.
        fingerprint: what they are made of; None = nothing is kept.
        frames: how many are done.
        limits: of the colours.
        steady: state of :class:`Steady`.
    """

    stem: Path
    fingerprint: str | None
    frames: int = 0
    limits: tuple[float, float] | None = None
    steady: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._folder = self.stem.with_name(f".{self.stem.name}.unfinished")
        try:
            state = torch.load(self._folder / "state.pt", weights_only=True)
            if self.fingerprint is not None and state["of"] == self.fingerprint:
                self.frames, self.limits, self.steady = state["frames"], tuple(state["limits"]), state["steady"]
                self._last = state["last"]
                return
        except Exception:  # none, half of one, or another version's: it is begun anew
            pass
        self._last = -1
        self.clear()

    def part(self, kind: str, stamp: int) -> Path:
        """Returns the file of the part that begins at ``stamp``."""
        self._last = stamp
        return self._folder / f"{kind}.{stamp}.mp4"

    def parts(self, kind: str) -> list[Path]:
        """Returns the finished parts in order."""
        found = [(int(path.stem.partition(".")[2]), path) for path in self._folder.glob(f"{kind}.*.mp4")]
        return [path for stamp, path in sorted(found) if stamp <= self._last]

    def keep(self, frames: int, limits: tuple[float, float] | None, align: Steady | None) -> None:
        """Say that so many frames are done."""
        state = {"of": self.fingerprint, "frames": frames, "limits": limits, "last": self._last}
        with atomic_path(self._folder / "state.pt") as temporary:
            torch.save(state | {"steady": [] if align is None else align.state}, temporary)

    def clear(self) -> None:
        """Throw it away."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _until(first: Any, rest: Iterator[Any], frames: int) -> Iterator[Any]:
    """``first``, and as much of ``rest`` until there are ``frames``."""
    count = len(first[0])
    yield first
    while count < frames and (batch := next(rest, None)):
        count += len(batch[0])
        yield batch


@contextmanager
def _ended_by_interrupt(film: _Film) -> Iterator[None]:
    """Ctrl-C ends a live source as if it had ended by itself."""
    if not film.live or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: film.stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise DadkitError("videos need the package PyAV: pip install 'dadkit[video]'") from error
    module: ModuleType = av
    return module


def _predicted(
    model: DepthModel, frames: Iterator[_Frame], size: int, lens: Lens | None = None
) -> Iterator[tuple[list[_Frame], Prediction]]:
    def ask(batch: list[_Frame]) -> Prediction:
        pixels = [one.pixels for one in batch]
        cameras = None
        if model.spec.takes_camera:
            cameras = given_cameras(lens, (pixels[0].shape[-2], pixels[0].shape[-1]), [None] * len(batch))
        return model.predict([one.float() / 255 for one in pixels], cameras=cameras, batch_size=size)

    batch: list[_Frame] = []
    for frame in frames:
        if batch and (len(batch) == size or frame.pixels.shape != batch[0].pixels.shape):
            yield batch, ask(batch)
            batch = []
        batch.append(frame)
    if batch:
        yield batch, ask(batch)


def _limits(film: _Film, model: DepthModel, size: int, lens: Lens | None = None) -> tuple[float, float]:
    every = max(1, (film.total or 0) // PROBES)
    probes = islice(film.frames(), 0, every * PROBES, every)
    found = [(depth, prediction.space) for _, prediction in _predicted(model, probes, size, lens) for depth in prediction.depth]
    if not found:
        raise DataError(f"{film.shown} has no frame that can be decoded")
    return shared_limits([depth for depth, _ in found], found[0][1])
