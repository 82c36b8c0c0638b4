"""A teacher's answers kept on disk, for contexts that show it the same pixels again in every epoch.

An answer is found again by what it depends on: the teacher's weights, name, options and precision, and the pixels themselves.
So a changed image, teacher or view size finds nothing instead of something wrong; mirrored images have answers of their own;
and runs may share a folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dadkit._version import __version__
from dadkit.errors import DadkitError
from dadkit.files import atomic_path
from dadkit.interfaces import ContextSampler, Estimate, Prediction, Teacher, known_cameras

__all__ = ["CachedTeacher", "are_fixed"]

_SIZES = ((480, 640), (1200, 900), (4096, 4096))


def are_fixed(contexts: ContextSampler) -> bool:
    """True if a sampler always looks at the same place of an image, whatever it draws."""
    for size in _SIZES:
        first, second = (contexts(size, torch.Generator().manual_seed(seed)) for seed in (0, 1))
        if not (torch.equal(first.region, second.region) and torch.equal(first.patches, second.patches)):
            return False
    return True


class CachedTeacher(Teacher):
    """A teacher that is asked once about the same pixels. Feature taps are not kept, nor answered.

    The last bits of an answer may depend on the size of the batch. So a batch of which one answer is missing is asked as a
    whole, as it would be without a cache, and what was kept of the others is answered all the same: a run that goes on after a
    kill finds more files than it would have found, and must get the same answers.

    Args:
        model: the teacher.
        identity: whatever its answers depend on besides its weights and the pixels, as plain data.
        folder: where answers lie, one file each; it may be shared.
        max_bytes: once the folder holds so much, no more is written; what is there is still used.
    """

    def __init__(self, model: Teacher, identity: Mapping[str, Any], folder: Path, max_bytes: float) -> None:
        super().__init__()
        self.model, self.folder = model, folder
        self.spec, self.fov = model.spec, model.fov
        self._identity, self._max_bytes = dict(identity), max_bytes
        self._prefix: bytes | None = None
        self._room = 0.0
        self.hits = self.misses = 0

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]] | Estimate:
        """Returns the wrapped teacher's answer."""
        return self.model.estimate(x)

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Prediction:
        """Returns the teacher's answer for images (B, 3, H, W) in [0, 1] that come from 8 bits, and for their cameras."""
        if self._prefix is None:
            self._prefix = self._describe()
            self._room = self._max_bytes - sum(path.stat().st_size for path in self.folder.glob("*/*.safetensors"))
        paths = self._paths(images, cameras)
        kept = [_read(path) for path in paths]
        answer = None
        if any(one is None for one in kept):
            self.misses += len(paths)
            answer = self.model(images) if cameras is None else self.model(images, cameras)
            self._write(paths, answer)
        else:
            self.hits += len(paths)
        given = (None, None, None) if answer is None else (answer.depth, answer.valid, answer.sky)
        depth = _joined(kept, given[0], "depth", images)
        assert depth is not None
        sky = _joined(kept, given[2], "sky", depth)
        return Prediction(depth, self.spec.space, _joined(kept, given[1], "valid", depth), sky=sky)

    def _describe(self) -> bytes:
        """Hash of everything but the pixels."""
        digest = hashlib.blake2b(json.dumps([__version__, self._identity], sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.digest()

    def _paths(self, images: Tensor, cameras: Tensor | None) -> list[Path]:
        assert self._prefix is not None
        pixels = (images * 255).round().to(torch.uint8).cpu().contiguous().numpy()
        shape = str(pixels.shape[1:]).encode()
        seen = [b""] * len(pixels)
        if cameras is not None:  # to a thousandth of a pixel; an unknown one is as good as none
            rows = zip(known_cameras(cameras).tolist(), cameras.detach().cpu().double().numpy(), strict=True)
            seen = [(camera * 1000).round().tobytes() if known else b"" for known, camera in rows]
        prefix = self._prefix + shape
        names = [
            hashlib.blake2b(prefix + image.tobytes() + camera, digest_size=20).hexdigest()
            for image, camera in zip(pixels, seen, strict=True)
        ]
        return [self.folder / name[:2] / f"{name}.safetensors" for name in names]

    def _write(self, paths: Sequence[Path], answer: Prediction) -> None:
        for index, path in enumerate(paths):
            tensors = {"depth": answer.depth[index].detach().cpu().contiguous()}
            if answer.valid is not None:
                tensors["valid"] = answer.valid[index].cpu().contiguous()
            if answer.sky is not None:
                tensors["sky"] = answer.sky[index].cpu().contiguous()
            size = sum(tensor.nbytes for tensor in tensors.values())
            if size > self._room or path.exists():
                continue
            try:
                with atomic_path(path) as temporary:
                    save_file(tensors, temporary)
            except (DadkitError, SafetensorError):  # a full disk: training needs no cache
                self._room = 0
                return
            self._room -= size


def _read(path: Path) -> Mapping[str, Tensor] | None:
    """Returns what was kept of one image: ``depth``, and ``valid`` unless all of it is; None if it is missing or damaged."""
    try:
        found: Mapping[str, Tensor] = load_file(path)
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError):
        path.unlink(missing_ok=True)
        return None
    return found if "depth" in found else None


def _joined(kept: Sequence[Mapping[str, Tensor] | None], fresh: Tensor | None, name: str, like: Tensor) -> Tensor | None:
    """Returns the maps called ``name`` (B, 1, H, W), an image's kept one before its fresh one; None where nobody gives any.

    No ``valid`` means that every pixel of ``like`` is valid, no ``sky`` that none is sky.
    """
    if fresh is None and not any(one is not None and name in one for one in kept):
        return None
    rows = []
    for index, one in enumerate(kept):
        row = one.get(name) if one is not None else None if fresh is None else fresh[index]
        rows.append(torch.full_like(like[index], name == "valid", dtype=torch.bool) if row is None else row.to(like.device))
    return torch.stack(rows)
