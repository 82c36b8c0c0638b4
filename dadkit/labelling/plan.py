"""What is to be labelled and how, fixed before the first label: the same command finds the same plan again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dadkit._version import __version__
from dadkit.data.label_codec import CODECS
from dadkit.data.label_set import PLAN, Unit, UnitTable, read_plan, write_units
from dadkit.data.store import Store, file_stamp, is_address
from dadkit.data.unlabelled import Images
from dadkit.errors import DadkitError
from dadkit.labelling.scores import ASKED

__all__ = ["Plan", "PlanError", "Settings", "cut_units", "make_plan", "open_plan", "weights_hash"]

FORMAT = 1
IMPORT = "import"
"""The name of a teacher that reads labels of other tools."""


class PlanError(DadkitError):
    """The folder holds labels of another plan, or the wish cannot be planned; the message says what differs."""

    exit_code = 2


@dataclass(frozen=True)
class Settings:
    """Everything that the labels depend on besides images and weights.

    Attributes:
        images: options of :class:`dadkit.data.Images`, ``root`` among them.
        teachers: ``{"name", "options"}`` of each.
        codec: one of ``CODECS``.
        size: the teacher sees the view (height, width) that the context ``whole`` would cut; None: the size that its own policy
            gives for the image. The map is stored at that size.
        precision: of the teachers' parameters.
        scores: out of ``ASKED``.
        unit: images a unit.
        views: ``whole``; ``patches`` has a grid of squares at native detail labelled besides
            (:func:`dadkit.data.label_set.cells`).
        patch_size, overlap: of the grid, in pixels of the image.
        source_license: terms of the images, as the user states them; they are copied into every record.
        cameras: sha256 of the file of cameras that ``images`` names. :meth:`now` fills it in.
    """

    images: Mapping[str, Any]
    teachers: Sequence[Mapping[str, Any]]
    codec: str = "png12"
    size: tuple[int, int] | None = None
    precision: str = "fp32"
    scores: Sequence[str] = ()
    unit: int = 1000
    source_license: str = ""
    views: str = "whole"
    patch_size: int = 560
    overlap: int = 56
    cameras: str = ""

    def now(self) -> Settings:
        """Returns the settings with the hash of the file of cameras as it is now.

        Raises:
            PlanError: the file cannot be read.
        """
        file = self.images.get("intrinsics")
        try:
            return self if file is None else replace(self, cameras=hashlib.sha256(Path(file).read_bytes()).hexdigest())
        except OSError as error:
            raise PlanError(f"cannot read the file of cameras {file}: {error.strerror or error}") from error

    def check(self) -> None:
        """Raises :class:`PlanError` if they contradict each other."""
        unknown = [name for name in self.scores if name not in ASKED]
        if unknown:
            raise PlanError(f"unknown score {unknown[0]!r}; --scores takes {', '.join(ASKED)} (others are always written)")
        if "agree" in self.scores and len(self.teachers) < 2:
            raise PlanError("the score agree compares two teachers; give --teacher twice")
        if self.codec not in CODECS:
            raise PlanError(f"unknown codec '{self.codec}'; choose from {', '.join(CODECS)}")
        if self.views not in ("whole", "patches"):
            raise PlanError(f"--views is whole or patches, got '{self.views}'")
        if self.views == "patches":
            if any(teacher["name"] == IMPORT for teacher in self.teachers):
                raise PlanError("patches are asked of teachers; labels of other tools have none")
            if not 0 <= self.overlap < self.patch_size:
                raise PlanError(f"--overlap is 0 to --patch-size - 1 = {self.patch_size - 1}, got {self.overlap}")
        if not self.teachers:
            raise PlanError("no teacher given; --teacher NAME[:options]")

    def plain(self) -> dict[str, Any]:
        """Returns the settings as JSON gives them back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return plain


@dataclass(frozen=True)
class Plan:
    """A plan that is stored beside the labels.

    Attributes:
        settings: see :class:`Settings`.
        teachers: name, space, licence and sha256 of the weights of each.
        base: folder that the images' names are relative to.
        table: name of the object with the units.
        units, images: how many.
        hash: sha256 of all this.
        dadkit: major.minor of the version that made it.
    """

    settings: Settings
    teachers: Sequence[Mapping[str, str]]
    base: str
    table: str
    units: int
    images: int
    hash: str = ""
    dadkit: str = field(default_factory=lambda: ".".join(__version__.split(".")[:2]))
    format: int = FORMAT

    def to_json(self) -> bytes:
        """Returns the text of ``plan.json``."""
        return (json.dumps(asdict(self) | {"settings": self.settings.plain()}, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Plan:
        """Returns the inverse of :meth:`to_json`."""
        settings = dict(plain["settings"])
        settings["size"] = None if settings["size"] is None else tuple(settings["size"])
        return cls(**{**plain, "settings": Settings(**settings)})

    def open_units(self, store: Store) -> UnitTable:
        """Returns the units."""
        return UnitTable(store, self.table)


def weights_hash(model: nn.Module, files: Iterable[Path] = ()) -> str:
    """Returns the sha256 of a model's parameters and buffers, with their names.

    Args:
        model: the model.
        files: where it comes from. They are hashed in place of a model without parameters: another runtime's file.
    """
    digest = hashlib.sha256()
    if next(model.parameters(), None) is None:
        for file in files:
            with file.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def open_plan(
    store: Store, settings: Settings | None = None, teachers: Sequence[Mapping[str, str]] | None = None
) -> Plan | None:
    """Returns the plan of a folder; None if it has none.

    Args:
        store: the folder.
        settings, teachers: what is wished now, to be compared.

    Raises:
        PlanError: the folder holds labels of another plan; the message says what differs.
    """
    found = read_plan(store)
    if found is None:
        return None
    if found.get("format") != FORMAT:
        raise PlanError(f"{store.root}/{PLAN} has format {found.get('format')}, this dadkit reads {FORMAT}")
    plan = Plan.from_json(found)
    wished = {} if settings is None else settings.now().plain()
    if "cameras" not in found["settings"]:  # a plan of an earlier version
        wished.pop("cameras", None)
    there = plan.settings.plain()
    different = [f"{name}: {there[name]} there, {wished[name]} here" for name in wished if wished[name] != there[name]]
    for old, new in zip(plan.teachers, teachers or plan.teachers, strict=False):
        different += [f"{name} of {old['name']}: {old[name]} there, {new[name]} here" for name in old if old[name] != new[name]]
    if different:
        raise PlanError(f"{store.root} holds labels of another plan ({'; '.join(different)}). Give another folder (--output)")
    return plan


def make_plan(store: Store, settings: Settings, teachers: Sequence[Mapping[str, str]]) -> Plan:
    """Returns the folder's plan, which is made and stored if there is none.

    Raises:
        PlanError: the folder holds labels of another plan.
        dadkit.errors.DataError: there are no images.
    """
    settings.check()
    found = open_plan(store, settings, teachers)
    if found is not None:
        return found
    images = Images(**settings.images)
    base = common_base([images.place(index)[0] for index in {0, len(images) - 1}] + _roots(settings.images))
    return store_plan(store, settings, teachers, base, cut_units(images, base, settings.unit))


def common_base(places: Sequence[Path | str]) -> str:
    """Returns the folder, or address, that holds all of the files, folders or addresses.

    Raises:
        PlanError: some are in buckets and others are not, or the buckets differ.
    """
    addresses = [place for place in places if isinstance(place, str)]
    if not addresses:
        return os.path.commonpath([_folder(Path(place)) for place in places])
    kinds = {place.partition("://")[0] for place in addresses}
    if len(addresses) < len(places) or len(kinds) > 1:
        raise PlanError("the images of one plan are all in folders, or all in one bucket")
    (kind,) = kinds
    folders = [place.rpartition("/")[0] if place.lower().endswith(".tar") else place for place in addresses]
    common = os.path.commonpath([place.partition("://")[2].strip("/") for place in folders])
    if not common:
        raise PlanError("the images of one plan are all in folders, or all in one bucket")
    return f"{kind}://{common}"


def store_plan(
    store: Store, settings: Settings, teachers: Sequence[Mapping[str, str]], base: str, units: Iterator[Unit]
) -> Plan:
    """Store a new plan of these units. If another process was faster its plan is returned."""
    settings = settings.now()
    file = store.scratch()
    try:
        count, images = write_units(file, units)
        with file.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256")
        store.publish(file, table := f"plan-{digest.hexdigest()[:12]}.units")
    finally:
        file.unlink(missing_ok=True)
    plan = Plan(settings, teachers, base, table, count, images)
    plan = Plan.from_json({**json.loads(plan.to_json()), "hash": hashlib.sha256(plan.to_json()).hexdigest()})
    store.create(PLAN, plan.to_json())
    stored = open_plan(store, settings, teachers)
    assert stored is not None
    return stored


def cut_units(images: Images, base: str, size: int) -> Iterator[Unit]:
    """Consecutive images of at most ``size`` a unit; members of two shards never share one."""
    number = start = 0
    while start < len(images):
        file, _, length = images.place(start)
        places = []
        stop = start
        while stop < len(images) and stop - start < size:
            place = images.place(stop)
            if (place[2] > 0) != (length > 0) or (length and place[0] != file):
                break
            places.append(place)
            stop += 1
        keys = [images.key(index) for index in range(start, stop)]
        if length:
            offsets, sizes = [offset for _, offset, _ in places], [size for _, _, size in places]
            yield Unit(number, keys, shard=_relative(file, base), offsets=offsets, sizes=sizes, stamp=file_stamp(file))
        else:
            yield Unit(number, keys, [_relative(place[0], base) for place in places])
        number, start = number + 1, stop


def _roots(images: Mapping[str, Any]) -> list[Path | str]:
    roots = images["root"] if isinstance(images["root"], list) else [images["root"]]
    return [_before_braces(str(root)) for root in roots]


def _before_braces(root: str) -> Path | str:
    """Returns the root, or of a pattern the folder or address that holds all of its shards."""
    plain, brace, _ = root.partition("{")
    if not is_address(root):
        return Path(plain)
    return plain.rpartition("/")[0] if brace else plain


def _folder(path: Path) -> str:
    path = path.expanduser().absolute()
    return str(path if path.is_dir() else path.parent)


def _relative(file: Path | str, base: str) -> str:
    if isinstance(file, str):
        return file.removeprefix(base + "/")
    return os.path.relpath(file.absolute(), base).replace(os.sep, "/")
