"""Mutated files through every reader: python benchmarks/fuzz.py [--count 10000] [--seed 0]

Each sane file is changed (bytes flipped, cut, doubled, zeroed; checksums of PNG are mended in every second file, so that the
change gets past them) and read as a user's file is. An input ends well with a result, or with one of dadkit's errors whose
message is one sentence that names the file. Counted as bad, and printed: any other exception (``traceback``), a message of
several lines or without the file's name (``unlocated``; YAML's mistakes have a line each, all located), more than 10 seconds of
processor time (``hang``), and more memory than twice what the largest sane input takes, a photograph of 48 megapixels
(``memory``). Memory is the peak of the resident set above what it was before the read, as Linux counts it. Exit code 1 if
anything was bad.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import signal
import struct
import sys
import tarfile
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from dadkit.config import load_run
from dadkit.data import DepthPairs, Images, SampleError
from dadkit.data.images import to_tensor
from dadkit.errors import DadkitError
from dadkit.loading import ModelCard, read_card
from dadkit.prediction import find_inputs
from dadkit.weights import read_weights

SLOW = 10.0
SIZE = (24, 32)


@dataclass(frozen=True)
class Kind:
    """What is mutated, the name of its file below a folder of its own, and how it is read."""

    data: bytes
    name: str
    read: Callable[[Path], object]


def kinds(rng: np.random.Generator) -> dict[str, Kind]:
    """A small sane file of every kind."""
    picture = Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    metres = 1 + 4 * rng.random(SIZE, np.float32)
    whole = Image.fromarray((metres * 1000).astype(np.uint16))

    def encoded(image: Image.Image, kind: str) -> bytes:
        data = io.BytesIO()
        image.save(data, kind)
        return data.getvalue()

    def written(write: Callable[[io.BytesIO], object]) -> bytes:
        data = io.BytesIO()
        write(data)
        return data.getvalue()

    def shard(file: io.BytesIO) -> None:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name in ("a.png", "b.png"):
                info = tarfile.TarInfo(name)
                info.size = len(encoded(picture, "PNG"))
                tar.addfile(info, io.BytesIO(encoded(picture, "PNG")))

    def pairs(encoding: str, **options: object) -> Callable[[Path], object]:
        def read(path: Path) -> object:
            (path.parents[1] / "images").mkdir(exist_ok=True)
            picture.save(path.parents[1] / "images" / f"{path.stem}.bmp")
            data = DepthPairs(path.parents[1], encoding=encoding, space="metric", **options)  # type: ignore[arg-type]
            return data[0].depth

        return read

    def all_of(root: Path) -> object:
        images = Images(root, min_size=1)
        return [images[index].image for index in range(len(images))]

    def list_of(path: Path) -> object:
        for name in ("a.bmp", "sub/b.bmp"):
            (path.parent / name).parent.mkdir(exist_ok=True)
            picture.save(path.parent / name)
        return find_inputs([path]), all_of(path)

    def list_of_pairs(path: Path) -> object:
        picture.save(path.parent / "a.bmp")
        np.save(path.parent / "a.npy", metres)
        return DepthPairs(path, encoding="npy", space="metric")[0].depth

    found = {
        kind.lower(): Kind(encoded(picture, kind), f"a.{kind.lower()}", to_tensor)
        for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "AVIF")
        if kind != "AVIF" or ".avif" in Image.registered_extensions()
    }
    found["png of 16 bits"] = Kind(encoded(whole, "PNG"), "a.png", to_tensor)
    found["animation"] = Kind(
        written(lambda file: picture.save(file, "GIF", save_all=True, append_images=[picture.rotate(90)])), "a.gif", to_tensor
    )
    inside = {
        "png16": (encoded(whole, "PNG"), {"scale": 0.001}),
        "png8": (encoded(picture.convert("L"), "PNG"), {"scale": 0.1}),
        "carla24": (encoded(picture, "PNG"), {"scale": 1000}),
        "tiff": (encoded(Image.fromarray(metres), "TIFF"), {}),
        "npy": (written(lambda file: np.save(file, metres)), {}),
        "npz": (written(lambda file: np.savez_compressed(file, depth=metres)), {}),
        "npz, not compressed": (written(lambda file: np.savez(file, depth=metres)), {}),
        "pfm": (b"Pf\n%d %d\n-1.0\n" % SIZE[::-1] + metres.tobytes(), {}),
    }
    for name, (data, options) in inside.items():
        encoding = name.partition(",")[0]
        ending = {"png16": "png", "png8": "png", "carla24": "png"}.get(encoding, encoding)
        found[f"depth {name}"] = Kind(data, f"depth/a.{ending}", pairs(encoding, **options))
    if (exr := open_exr(metres)) is not None:
        found["depth exr"] = Kind(exr, "depth/a.exr", pairs("exr"))
    weights = {"module.a": torch.ones(3), "module.b": torch.ones(2, 2)}
    card = save(weights, ModelCard("dav2/tiny", {}, "disparity", ["mit"], {"dadkit": "1"}, "r", "main", 1, "h").to_metadata())
    found |= {
        "list": Kind(b"# images\na.bmp\nsub/b.bmp\n", "list.txt", list_of),
        "list of pairs": Kind(b"a.bmp a.npy 518.8579\n", "list.txt", list_of_pairs),
        "yaml": Kind((Path(__file__).parents[1] / "configs" / "quickstart.yaml").read_bytes(), "a.yaml", load_run),
        "safetensors": Kind(card, "a.safetensors", lambda path: read_weights(str(path))),
        "card": Kind(card, "a.safetensors", read_card),
        "pth": Kind(
            written(lambda file: torch.save({"model": weights, "epoch": 1}, file)),
            "a.pth",
            lambda path: read_weights(str(path)),
        ),
        "pth, old": Kind(
            written(lambda file: torch.save(weights, file, _use_new_zipfile_serialization=False)),
            "a.pth",
            lambda path: read_weights(str(path)),
        ),
        "tar": Kind(written(shard), "a.tar", all_of),
    }
    return found


def open_exr(values: np.ndarray) -> bytes | None:
    """The bytes of an OpenEXR file with one channel; None if the package is not installed."""
    try:
        import OpenEXR
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.exr"
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, {"Z": values}).write(str(path))
        return path.read_bytes()


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to eight changes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        place, length = rng.randrange(len(changed) + 1), rng.choice((1, 1, 2, 4, 16, 64))
        match rng.randrange(5):
            case 0:
                changed[place : place + length] = rng.randbytes(length)
            case 1:
                del changed[place : place + length]
            case 2:
                changed[place:place] = changed[place : place + length]
            case 3:
                changed[place : place + length] = rng.choice((b"\0", b"\xff", b"\x7f")) * length
            case 4:
                del changed[place:]
    return mended(changed) if changed.startswith(b"\x89PNG") and rng.random() < 0.5 else bytes(changed)


def mended(png: bytearray) -> bytes:
    """The same with right checksums, as far as its chunks can be followed."""
    place = 8
    while place + 12 <= len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        end = place + 8 + length
        if end + 4 > len(png):
            break
        png[end : end + 4] = struct.pack(">I", zlib.crc32(png[place + 4 : end]))
        place = end + 4
    return bytes(png)


def memory(read: Callable[[], object]) -> float:
    """Megabytes by which the resident set grew at most, whether the read ended well or not; what it raised is raised."""

    def status(name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
        assert found is not None
        return int(found[1])

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = status("VmRSS")
    try:
        read()
    finally:
        memory.last = (status("VmHWM") - before) / 1024  # type: ignore[attr-defined]
    return memory.last  # type: ignore[attr-defined, no-any-return]


def ended(kind: Kind, path: Path, bound: float) -> tuple[str, str]:
    """How a read ended, and what is to be said of it."""
    begun, memory.last = time.process_time(), 0.0  # type: ignore[attr-defined]
    end, text = "result", ""
    signal.alarm(60)  # a hang is printed with its place
    try:
        memory(lambda: kind.read(path))
    except (DadkitError, SampleError) as error:
        text, end = str(error), "sentence"
        lines = [line for line in text.splitlines() if line.strip()]
        if kind.name.endswith(".yaml") and len(lines) > 1:
            lines = lines[1:]  # the first says how many mistakes there are
        elif len(lines) != 1:
            end = "unlocated"
        if not all(str(path) in line for line in lines):
            end = "unlocated"
    except Exception as error:
        end, text = "traceback", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    if time.process_time() - begun > SLOW:
        end, text = "hang", f"{time.process_time() - begun:.1f} s"
    if memory.last > bound:  # type: ignore[attr-defined]
        end, text = "memory", f"{memory.last:.0f} MB"  # type: ignore[attr-defined]
    return end, text


def main() -> None:
    """Mutate, read, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", help="only kinds whose name begins so")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, hung)
    rng = random.Random(given.seed)
    chosen = {name: kind for name, kind in kinds(np.random.default_rng(0)).items() if name.startswith(given.kind or "")}
    counts: dict[str, Counter[str]] = {name: Counter() for name in chosen}
    most = dict.fromkeys(chosen, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.jpg"
        Image.fromarray(np.zeros((6000, 8000, 3), np.uint8)).save(large)
        for kind in chosen.values():  # everything is loaded before memory is looked at
            path = Path(folder) / "sane" / kind.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(kind.data)
            kind.read(path)
            clear(Path(folder) / "sane")
        bound = 2 * memory(lambda: to_tensor(large))
        for number in range(given.count):
            name = list(chosen)[number % len(chosen)]
            path = Path(folder) / str(number) / chosen[name].name
            path.parent.mkdir(parents=True)
            path.write_bytes(mutate(chosen[name].data, rng))
            end, text = ended(chosen[name], path, bound)
            if end not in ("result", "sentence"):
                print(f"{end}: {name} {number} (seed {given.seed}): {text[:300]!r}", flush=True)
            counts[name][end] += 1
            most[name] = max(most[name], memory.last)  # type: ignore[attr-defined]
            clear(Path(folder) / str(number))
    for name, ends in counts.items():
        print(f"{name:20s} {json.dumps(dict(sorted(ends.items())))}, at most {most[name]:.0f} MB")
    total: Counter[str] = sum(counts.values(), Counter())
    print(f"all {given.count}, seed {given.seed}: {json.dumps(dict(sorted(total.items())))}; bound of memory {bound:.0f} MB")
    sys.exit(0 if set(total) <= {"result", "sentence"} else 1)


def clear(folder: Path) -> None:
    """Delete a folder of mutated files."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()


def hung(*_: object) -> None:
    """What SIGALRM does."""
    raise TimeoutError(f"no answer after 60 s in process {os.getpid()}")


if __name__ == "__main__":
    main()
