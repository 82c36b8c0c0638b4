"""What an exporter writes: a file that answers as the network does, says what it was told, and tells nothing else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dadkit.interfaces import Exporter, ExportRequest
from dadkit.testing.check import check, fail, skip_unless
from dadkit.testing.subject import Subject
from dadkit.testing.toy import ToyStudent

_MULTIPLE = 4
_TOLERANCE = 1e-4


@check("exporter", since=1)
def builds(subject: Subject) -> None:
    """Its options build an Exporter with a suffix, and fp32 is one of its precisions."""
    exporter = subject.shared
    if not isinstance(exporter, Exporter):
        fail(f"it built a {type(exporter).__qualname__}", "Derive it from dadkit.interfaces.Exporter")
    if not exporter.suffix.startswith(".") or "fp32" not in exporter.precisions:
        found = f"its suffix is {exporter.suffix!r}, its precisions are {exporter.precisions}"
        fail(found, "Say suffix = '.xyz', and take fp32")


@check("exporter", since=1, needs=["builds"])
def writes(subject: Subject) -> None:
    """It writes the file that it was asked for, in an empty folder, and answers there with the network's map."""
    with _written(subject) as (network, path, request):
        if not path.exists():  # some formats are folders
            fail(f"there is no {path.name}", "Write to the path that it is given")
        skip_unless(subject.shared.runs_here is None, f"its files do not run here: {subject.shared.runs_here}")
        run = subject.shared.open(path, threads=1)
        shapes = [(1, *request.size)] if request.size else [(1, 16, 24), (3, 28, 12)]
        for batch, height, width in shapes:
            images = torch.rand(batch, 3, height, width)
            answer = torch.as_tensor(run(images.numpy()))
            wanted = network(images)
            if answer.shape != wanted.shape or answer.dtype != torch.float32:
                fail(
                    f"{batch} images of {height} x {width} got {tuple(answer.shape)} of {answer.dtype}",
                    "Answer with (B, 1, H, W) float32; export with dynamic sizes, or say any_size = False",
                )
            worst = float((answer - wanted).abs().max())
            if not worst <= _TOLERANCE * float(wanted.abs().max()):
                fail(
                    f"the file differs from the network by {worst:.2g} at {batch} x {height} x {width}",
                    "In fp32 the two are equal up to rounding; a size of the example may be part of the graph",
                )


@check("exporter", since=1, needs=["writes"])
def remembers(subject: Subject) -> None:
    """What annotate stores, metadata gives back, and the file still runs."""
    with _written(subject) as (_, path, request):
        told = {"dadkit": '{"name": "ü", "range": [0, null]}', "note": "two\nlines"}
        subject.shared.annotate(path, told)
        found = subject.shared.metadata(path)
        if any(found.get(key) != value for key, value in told.items()):
            fail(f"annotate was given {told}, metadata has {dict(found)}", "Store keys and values as they are")
        if subject.shared.runs_here is None:
            height, width = request.size or (8, 8)
            subject.shared.open(path)(torch.rand(1, 3, height, width).numpy())


@check("exporter", since=1, needs=["writes"])
def private(subject: Subject) -> None:
    """The files hold no path of this machine."""
    with _written(subject) as (_, path, _):
        places = {str(path.parent), str(Path(torch.__file__).parent), str(Path(__file__).parents[2]), str(Path.home())} - {"/"}
        for file in path.parent.rglob("*"):
            held = sorted(place for place in places if file.is_file() and place.encode() in file.read_bytes())
            if held:
                fail(f"{file.name} holds {held[0]}", "Take out traces and sources, which translators leave in the file")


@contextmanager
def _written(subject: Subject) -> Iterator[tuple[torch.nn.Module, Path, ExportRequest]]:
    exporter = subject.shared
    network = ToyStudent().deployable()
    request = ExportRequest(_MULTIPLE, None if exporter.any_size else (16, 24))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / f"toy{exporter.suffix}"
        exporter.write(network, path, request)
        yield network, path, request
