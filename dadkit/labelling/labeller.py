"""Label one unit: decode, ask, encode, pack, publish, and commit the record last."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import platform
import tarfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dadkit._version import __version__
from dadkit.data.images import exif_camera
from dadkit.data.label_codec import encode_map, encode_mask, ending
from dadkit.data.label_set import Index, Unit, cells, data_name, record_name
from dadkit.data.pairs import Cameras
from dadkit.data.shard_index import read_range
from dadkit.data.store import Store, file_stamp, open_store, read_sample
from dadkit.data.views import resized
from dadkit.errors import DataError, SampleError
from dadkit.interfaces import Prediction, crop_camera, flip_camera, resize_camera
from dadkit.labelling.answers import Answers, load_answers, read_image
from dadkit.labelling.plan import Plan, PlanError, open_plan
from dadkit.labelling.scores import about_image, about_map, agreement, consistency
from dadkit.loading import pick_device

__all__ = ["Labeller", "commit"]


@dataclass(frozen=True)
class _Prepared:
    """One decoded image: its place in the unit, what each teacher needs of it, and scores of the image.

    Cameras are those of pictures 1 wide and 1 high: (3, 3) and, of the patches, (N, 3, 3); NaN = unknown.
    """

    row: int
    inputs: list[Tensor]
    scores: dict[str, float | int]
    camera: Tensor
    patches: Tensor | None = None
    patch_cameras: Tensor | None = None

    @property
    def shapes(self) -> tuple[Any, ...]:
        return tuple((one.shape, one.dtype) for one in self.inputs)


@dataclass
class _Label:
    """One encoded label: one map a teacher, one mask of sky a teacher (b"": none), and for each patch one map a teacher."""

    row: int
    members: list[bytes]
    scores: dict[str, float | int]
    cameras: list[Tensor | None] = field(default_factory=list)


class Labeller:
    """Holds the teachers of a plan and labels units of it. Nothing but names and records goes in or out.

    Args:
        root: where the labels are, with a plan.
        device: see :func:`dadkit.loading.pick_device`.
        batch_size: images of one size that share a forward pass; None: 8, and 2 on a CPU, whose caches hold no more.
        threads: threads that read ahead, and as many that encode behind.
        teachers: teachers that are loaded already; None loads them.

    Raises:
        PlanError: there is no plan, or the weights are not those of the plan.
    """

    def __init__(
        self,
        root: str,
        *,
        device: str = "auto",
        batch_size: int | None = None,
        threads: int = 2,
        teachers: Sequence[Answers] | None = None,
    ) -> None:
        self.store: Store = open_store(root)
        plan = open_plan(self.store)
        if plan is None:
            raise PlanError(f"{root} holds no plan")
        self.plan: Plan = plan
        settings = plan.settings
        self._teachers = teachers or load_answers(settings, device)
        open_plan(self.store, settings, [teacher.about for teacher in self._teachers])
        self._units, self._source = plan.open_units(self.store), open_store(plan.base)
        cameras = settings.images.get("intrinsics")
        self._cameras = None if cameras is None else Cameras(Path(cameras), None)
        self._batch_size = batch_size or (2 if pick_device(device).type == "cpu" else 8)
        self._threads = threads

    def __call__(self, number: int, attempt: int = 1) -> dict[str, Any]:
        """Label a unit. Returns its record, which is another worker's if that one was faster.

        Raises:
            DataError: the source shard changed since the plan was made, or is gone.
            DadkitError: the disk is full, or the store cannot be written.
        """
        begun = time.time()
        unit = self._units[number]
        self._check_source(unit)
        errors: list[dict[str, str]] = []
        file = self.store.scratch()
        index_file = self.store.scratch()
        try:
            index = self._pack(unit, file, errors)
            index_file.write_bytes(index)
            with file.open("rb") as handle:
                tar_hash = hashlib.file_digest(handle, "sha256").hexdigest()
            record: dict[str, Any] = {
                "unit": number,
                "plan": self.plan.hash,
                "labels": len(unit) - len(errors),
                "errors": errors,
                "bytes": file.stat().st_size,
                "tar_sha256": tar_hash,
                "index_sha256": hashlib.sha256(index).hexdigest(),
                "source": {"shard": unit.shard, "stamp": unit.stamp},
                "teachers": list(self.plan.teachers),
                "source_license": self.plan.settings.source_license,
                "attempt": attempt,
                "host": platform.node(),
                "pid": os.getpid(),
                "begun": round(begun, 3),
                "seconds": round(time.time() - begun, 3),
                "versions": {"dadkit": __version__, "torch": torch.__version__},
            }
            return commit(self.store, record, file, index_file)
        except OSError as error:
            raise DataError(
                f"cannot write labels below {self.store.root}: {error.strerror or error}; free some space"
            ) from error
        finally:
            for rest in (file, index_file):
                rest.unlink(missing_ok=True)

    def _check_source(self, unit: Unit) -> None:
        if unit.shard and (now := file_stamp(f"{self.plan.base}/{unit.shard}")) != unit.stamp:
            raise DataError(
                f"{self.plan.base}/{unit.shard} changed since the plan was made ({unit.stamp} then, {now} now). Bring it "
                "back, or label into another folder"
            )

    def _pack(self, unit: Unit, file: Path, errors: list[dict[str, str]]) -> bytes:
        """Write the tar of a unit; returns its side index."""
        rows, offsets, sizes, scores, cameras = [], [], [], [], []
        count = len(self._teachers)
        with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
            for label in self._labels(unit, errors):
                places = []
                for name, data in zip(self._names(), label.members, strict=False):
                    if not data:
                        places.append((0, 0))
                        continue
                    member = tarfile.TarInfo(unit.keys[label.row] + name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    places.append((tar.offset - padded, len(data)))
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile remembers every header it has written
                rows.append(label.row)
                offsets.append([offset for offset, _ in places])
                sizes.append([size for _, size in places])
                scores.append(label.scores)
                cameras.append(
                    [np.full((3, 3), np.nan, np.float32) if camera is None else camera.numpy() for camera in label.cameras]
                )
        errors.sort(key=lambda error: unit.keys.index(error["key"]))
        order = np.argsort(np.array(rows, np.int32))  # pictures of one size were asked together; the index is as the plan is
        known = np.array(cameras, np.float32).reshape(-1, count, 3, 3)[order]
        return Index(
            np.array(rows, np.int32)[order],
            _rectangle(offsets, 2 * count, np.int64)[order],
            _rectangle(sizes, 2 * count, np.int32)[order],
            {name: _column(name, [one[name] for one in scores])[order] for name in (scores[0] if scores else {})},
            known if np.isfinite(known).any() else None,
        ).to_bytes()

    def _names(self) -> Iterator[str]:
        """How the names of the members of a label end."""
        depth = ending(self.plan.settings.codec)
        which = [f".{number}" if number else "" for number in range(len(self._teachers))]
        yield from (teacher + depth for teacher in which)
        yield from (f"{teacher}.sky.png" for teacher in which)
        if self.plan.settings.views == "patches":
            yield from (f"{teacher}.patch{place}{depth}" for place in itertools.count() for teacher in which)

    def _labels(self, unit: Unit, errors: list[dict[str, str]]) -> Iterator[_Label]:
        """The labels of a unit, while threads read ahead of the teachers and encode behind them."""
        waiting: dict[Any, list[_Prepared]] = {}
        encoding: deque[Future[_Label]] = deque()
        with ThreadPoolExecutor(self._threads) as readers, ThreadPoolExecutor(self._threads) as writers:
            try:
                for prepared in self._read(unit, readers, errors):
                    batch = waiting.setdefault(prepared.shapes, [])
                    batch.append(prepared)
                    if len(batch) == self._batch_size or sum(map(len, waiting.values())) > 4 * self._batch_size:
                        full = max(waiting, key=lambda shapes: len(waiting[shapes]))
                        encoding.extend(self._ask(waiting.pop(full), writers))
                    while encoding and (encoding[0].done() or len(encoding) > 4 * (self._threads + self._batch_size)):
                        yield encoding.popleft().result()
                for batch in waiting.values():
                    encoding.extend(self._ask(batch, writers))
                while encoding:
                    yield encoding.popleft().result()
            finally:
                readers.shutdown(cancel_futures=True)
                writers.shutdown(cancel_futures=True)

    def _read(self, unit: Unit, readers: ThreadPoolExecutor, errors: list[dict[str, str]]) -> Iterator[_Prepared]:
        ahead = 2 * self._threads + self._batch_size
        running: deque[tuple[int, Future[_Prepared]]] = deque()
        for row in range(len(unit) + ahead):
            if row < len(unit):
                running.append((row, readers.submit(self._prepare, unit, row)))
            if row >= ahead or row >= len(unit):
                if not running:
                    return
                done, reading = running.popleft()
                try:
                    yield reading.result()
                except SampleError as error:
                    cause = error.__cause__ or error
                    errors.append({"key": unit.keys[done], "class": type(cause).__name__, "text": str(error)})

    def _prepare(self, unit: Unit, row: int) -> _Prepared:
        if unit.shard:
            data = read_range(f"{self.plan.base}/{unit.shard}", unit.offsets[row], unit.sizes[row])
        else:
            data = read_sample(self._source, unit.names[row])
        settings, patches, of_patches = self.plan.settings, None, None
        image, size = read_image(data, settings.images, self._teachers if settings.views == "whole" else ())
        camera = self._camera(unit.keys[row], data, (image.shape[-2], image.shape[-1]), size)
        if settings.views == "patches":
            boxes = cells(*size, settings.patch_size, settings.overlap)
            patches = torch.stack([resized(image, box, (settings.patch_size, settings.patch_size)) for box in boxes])
            whole = resize_camera(camera, (1, 1), size)
            of_patches = torch.stack(
                [resize_camera(crop_camera(whole, (x, y)), (bottom - y, right - x), (1, 1)) for x, y, right, bottom in boxes]
            )
        inputs = [teacher.prepare(unit.keys[row], image) for teacher in self._teachers]
        return _Prepared(row, inputs, about_image(data, image, size), camera, patches, of_patches)

    def _camera(self, key: str, data: bytes, size: tuple[int, int], whole: tuple[int, int]) -> Tensor:
        """Returns the camera that the file of cameras or the EXIF data tell of an image, as if it were 1 wide and 1 high.

        The image is decoded at ``size``; the file tells of its ``whole`` size.
        """
        if self._cameras is not None and (given := self._cameras.get(key)) is not None:
            return resize_camera(given, whole, (1, 1))
        camera = exif_camera(data, size) if any(teacher.takes_camera for teacher in self._teachers) else None
        if camera is None:
            if any(teacher.needs_camera for teacher in self._teachers):
                raise SampleError(
                    "its camera is unknown, and a teacher has metres only with one: give that teacher the option fov, or, for "
                    "students of disparity, space: scale"
                )
            return torch.full((3, 3), torch.nan)
        return resize_camera(camera, size, (1, 1))

    def _ask(self, batch: list[_Prepared], writers: ThreadPoolExecutor) -> list[Future[_Label]]:
        answers = []
        cameras = torch.stack([one.camera for one in batch])
        for number, teacher in enumerate(self._teachers):
            inputs = torch.stack([one.inputs[number] for one in batch])
            answers.append(teacher.ask(inputs, cameras))
        mirrored = None
        if "flip" in self.plan.settings.scores:
            inputs = torch.stack([one.inputs[0] for one in batch]).flip(-1)
            mirrored = self._teachers[0].ask(inputs, flip_camera(cameras, 1))
        return [
            writers.submit(self._encode, one, answers, mirrored, place, self._ask_patches(one))
            for place, one in enumerate(batch)
        ]

    def _ask_patches(self, one: _Prepared) -> list[list[Prediction]]:
        """For each teacher its answers about the patches of an image, a batch each."""
        if one.patches is None or one.patch_cameras is None:
            return []
        parts = list(zip(one.patches.split(self._batch_size), one.patch_cameras.split(self._batch_size), strict=True))
        return [[teacher.ask_patches(part, cameras) for part, cameras in parts] for teacher in self._teachers]

    def _encode(
        self,
        one: _Prepared,
        answers: list[Prediction],
        mirrored: Prediction | None,
        place: int,
        patches: list[list[Prediction]],
    ) -> _Label:
        settings = self.plan.settings
        maps = [_floats(answer, place) for answer in answers]
        members = [
            encode_map(values, settings.codec, space=answer.space, model=about["name"])
            for values, answer, about in zip(maps, answers, self.plan.teachers, strict=True)
        ]
        members += [b"" if answer.sky is None else encode_mask(answer.sky[place, 0].numpy()) for answer in answers]
        # Sky in patches is settled here: 0 in disparity, invalid elsewhere.
        pieces = [
            [_floats(part.to_space(part.space), i) for part in parts for i in range(len(part.depth))] for parts in patches
        ]
        members += [
            encode_map(values, settings.codec, space=answer.space, model=about["name"])
            for of_patch in zip(*pieces, strict=True)
            for values, answer, about in zip(of_patch, answers, self.plan.teachers, strict=True)
        ]
        scores = {**about_map(maps[0]), **one.scores}
        if mirrored is not None:
            scores["flip"] = consistency(maps[0], _floats(mirrored, place))
        if "agree" in settings.scores:
            scores["agree"] = agreement(maps[0], maps[1])
        cameras = [None if answer.intrinsics is None else answer.intrinsics[place] for answer in answers]
        return _Label(one.row, members, scores, cameras)


def _rectangle(rows: list[list[int]], least: int, kind: type) -> Any:
    """(n, m): lists of different lengths, filled up with 0."""
    table: Any = np.zeros((len(rows), max([least, *map(len, rows)])), kind)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def commit(store: Store, record: Mapping[str, Any], tar: Path, index: Path) -> dict[str, Any]:
    """Publish a unit's files under their own hash, then create its record. The first writer wins.

    Returns:
        The record that counts: this one, or that of another worker. Files of a record that does not count are removed.
    """
    unit = record["unit"]
    digest = hashlib.sha256(f"{record['tar_sha256']} {record['index_sha256']}".encode()).hexdigest()[:12]
    mine = {**record, "hash": digest}
    store.publish(tar, data_name(unit, digest))
    store.publish(index, data_name(unit, digest, ".idx"))
    if store.create(record_name(unit), (json.dumps(mine) + "\n").encode()):
        return mine
    first: dict[str, Any] = json.loads(store.read(record_name(unit)))
    if first["hash"] != digest:
        for suffix in (".tar", ".idx"):
            store.remove(data_name(unit, digest, suffix))
    return first


def _floats(answer: Prediction, place: int) -> Any:
    values = answer.depth[place, 0].float().numpy()
    return values if answer.valid is None else np.where(answer.valid[place, 0].numpy(), values, np.nan)


def _column(name: str, values: list[Any]) -> Any:
    kinds = {"dhash": np.uint64, "digest": np.uint64, "height": np.uint32, "width": np.uint32}
    return np.array(values, kinds.get(name, np.float16))
