"""Metres for predictions: the points that come with each picture, and the completer that uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from dadkit.data.hints import implausible, read_hints
from dadkit.interfaces import Completer, Prediction

__all__ = ["Sparse"]


@dataclass(frozen=True)
class Sparse:
    """What makes metres of a model's map.

    Attributes:
        completer: the method.
        files: relative stem of a picture's results -> its file of points; see :func:`dadkit.data.hints.find_hints`.
        scale: metres a stored unit; None = the file says metres.
        see_through: drop points seen past an edge; see :meth:`dadkit.interfaces.Hints.from_points`.
    """

    completer: Completer
    files: Mapping[Path, Path]
    scale: float | None = None
    see_through: float | None = None

    def settings(self) -> dict[str, object]:
        """Returns what changes the result, for the plan: each file by its size and time, and the numbers."""
        stamps = {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(self.files.values())}
        return {"files": stamps, "scale": self.scale, "see_through": self.see_through}

    def complete(self, stem: Path, image: Tensor, prediction: Prediction, index: int) -> Prediction:
        """Returns the ``index``-th map of a batch in metres.

        Args:
            stem: relative stem of the picture's results.
            image: (3, H, W) uint8.
            prediction: the model's answer for the batch.
            index: which of the batch.

        Returns:
            A metric Prediction of batch size 1.

        Raises:
            dadkit.errors.DadkitError: the points cannot be used; the message names the file.
        """
        hints = read_hints(self.files[stem], (image.shape[-2], image.shape[-1]), scale=self.scale, see_through=self.see_through)
        one = slice(index, index + 1)
        relative = replace(
            prediction,
            depth=prediction.depth[one].cpu(),
            valid=None if prediction.valid is None else prediction.valid[one].cpu(),
            intrinsics=None if prediction.intrinsics is None else prediction.intrinsics[one].cpu(),
            features={},
        )
        return self.completer.complete(image[None].float() / 255, hints, relative, relative.intrinsics)

    def warnings(self) -> list[str]:
        """Returns what is odd about the first file's metres, if anything."""
        for file in self.files.values():
            odd = implausible(read_hints(file, (4096, 4096), scale=self.scale))
            return [f"{file}: {odd}"] if odd else []
        return []
