"""Mutated files through every reader: python benchmarks/fuzz.py [--count 10000] [--seed 0]

Each sane file is changed (bytes flipped, cut, doubled, zeroed) and read. An input ends well with a result or with one of
dadkit's errors, whose message is one located sentence or a list of them. Anything else, or a read of more than 5 seconds, is
printed and counted; the last line holds the counts. Peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from dadkit.config import load_run
from dadkit.data import Images, SampleError
from dadkit.data.depth_files import read_depth
from dadkit.data.images import decode
from dadkit.errors import DadkitError
from dadkit.loading import read_card
from dadkit.weights import read_weights

SLOW = 5.0


def sane() -> dict[str, tuple[bytes, str, Callable[[Path], object]]]:
    """Kind -> (bytes, suffix, how it is read)."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))

    def encoded(picture: Image.Image, kind: str) -> bytes:
        data = io.BytesIO()
        picture.save(data, kind)
        return data.getvalue()

    array, depth = io.BytesIO(), rng.random((24, 32), np.float32)
    np.save(array, depth)
    archive = io.BytesIO()
    np.savez_compressed(archive, depth=depth)
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for name in ("a.png", "b.png"):
            info = tarfile.TarInfo(name)
            info.size = len(encoded(image, "PNG"))
            tar.addfile(info, io.BytesIO(encoded(image, "PNG")))
    weights, pickled = save({"a": torch.ones(3)}, metadata={"dadkit": json.dumps({"component": "x"})}), io.BytesIO()
    torch.save({"model": {"module.a": torch.ones(3)}, "epoch": 1}, pickled)
    config = (Path(__file__).parents[1] / "configs" / "quickstart.yaml").read_bytes()
    grey = Image.fromarray((depth * 60000).astype(np.uint16))
    pfm = b"Pf\n32 24\n-1.0\n" + depth.tobytes()

    def shard_images(path: Path) -> object:
        images = Images(path, min_size=1)
        return [_sample(images, index) for index in range(len(images))]

    found: dict[str, tuple[bytes, str, Callable[[Path], object]]] = {
        kind.lower(): (encoded(image, kind), f".{kind.lower()}", decode)
        for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")
    }
    return found | {
        "depth png16": (encoded(grey, "PNG"), ".png", lambda path: read_depth(path, "png16")),
        "depth npy": (array.getvalue(), ".npy", lambda path: read_depth(path, "npy")),
        "depth npz": (archive.getvalue(), ".npz", lambda path: read_depth(path, "npz")),
        "depth pfm": (pfm, ".pfm", lambda path: read_depth(path, "pfm")),
        "list": (b"# images\na.png\nsub/b.png\n", ".txt", lambda path: Images(path, min_size=1)),
        "yaml": (config, ".yaml", lambda path: load_run(path)),
        "safetensors": (weights, ".safetensors", read_card),
        "pth": (pickled.getvalue(), ".pth", lambda path: read_weights(str(path))),
        "tar": (shard.getvalue(), ".tar", shard_images),
    }


def _sample(images: Images, index: int) -> object:
    try:
        return images[index]
    except SampleError as error:
        return error


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
    return bytes(changed)


def main() -> None:
    """Mutate, read, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    kinds, rng = sane(), random.Random(given.seed)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.count):
            kind = list(kinds)[number % len(kinds)]
            data, suffix, read = kinds[kind]
            path = Path(folder) / f"{number}{suffix}"
            path.write_bytes(mutate(data, rng))
            begun = time.perf_counter()
            try:
                read(path)
                end = "result"
            except (DadkitError, SampleError):
                end = "sentence"
            except Exception as error:
                end = "traceback"
                print(f"{kind} {number} (seed {given.seed}): {type(error).__name__}: {str(error)[:200]}", flush=True)
            if time.perf_counter() - begun > SLOW:
                end = "slow"
                print(f"{kind} {number} (seed {given.seed}): {time.perf_counter() - begun:.1f} s", flush=True)
            counts[kind][end] += 1
            path.unlink()
    for kind, ends in counts.items():
        print(f"{kind:12s} {json.dumps(dict(sorted(ends.items())))}")
    total: Counter[str] = sum(counts.values(), Counter())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"all {given.count}, seed {given.seed}: {json.dumps(dict(sorted(total.items())))}, peak memory {memory:.0f} MB")


if __name__ == "__main__":
    main()
