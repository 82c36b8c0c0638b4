"""An ONNX file that is open: one image input, one map, and what the file fixes about their shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from dadkit.weights import WeightsError

__all__ = ["Network", "open_network"]

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}


@dataclass(frozen=True, eq=False)
class Network:
    """A network that takes images and answers with maps.

    Attributes:
        session: of onnxruntime.
        input, output: names in the file.
        dtype: of the input.
        last: whether channels come last, (B, H, W, 3).
        batch, height, width: what the file fixes; None where it leaves the number open.
    """

    session: Any
    input: str
    output: str
    dtype: type[np.generic]
    last: bool
    batch: int | None
    height: int | None
    width: int | None

    def __call__(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) in the file's numbers -> (B, 1, h', w') float32, both on x's device."""
        pixels = x.movedim(1, -1) if self.last else x
        array = pixels.float().cpu().numpy()
        if self.dtype is np.uint8:
            array = array.round().clip(0, 255)
        array = np.ascontiguousarray(array, dtype=self.dtype)
        (answer,) = self.session.run([self.output], {self.input: array})
        return _as_maps(torch.from_numpy(np.asarray(answer, dtype=np.float32)), len(x), self.output).to(x.device)


def _as_maps(answer: Tensor, count: int, name: str) -> Tensor:
    """(B, 1, h, w) from what networks answer with: that, (B, h, w), (B, h, w, 1) or, of one image, (h, w)."""
    shape = tuple(answer.shape)
    if answer.ndim == 2 and count == 1:
        answer = answer[None]
    if answer.ndim == 4 and answer.shape[-1] == 1 and answer.shape[1] != 1:
        answer = answer[..., 0]
    if answer.ndim == 3:
        answer = answer[:, None]
    if answer.ndim != 4 or answer.shape[:2] != (count, 1):
        raise WeightsError(
            f"output '{name}' has the shape {shape} for {count} images, which is no map an image; see option output"
        )
    return answer


def open_network(file: Path, *, threads: int, output: str | None) -> Network:
    """Open an ONNX file.

    Args:
        file: where it is.
        threads: of onnxruntime. Its idle threads sleep: spinning, they would take the cores from torch's.
        output: name of the output with the map; None: the first.

    Raises:
        WeightsError: it is no ONNX file, it does not take one batch of RGB images, or it has no such output.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    wanted = [name for name in ("CUDAExecutionProvider",) if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(file, options, providers=[*wanted, "CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each of its status codes, all derived from Exception alone
        raise WeightsError(f"{file} cannot be opened by onnxruntime: {str(error).splitlines()[0]}") from error
    images = session.get_inputs()
    outputs = [given.name for given in session.get_outputs()]
    if len(images) != 1 or len(images[0].shape) != 4 or images[0].type not in _TYPES:
        found = ", ".join(f"{given.name}: {given.type} {given.shape}" for given in images)
        raise WeightsError(f"{file} should take one batch of images, four numbers of a real type; it takes {found}")
    if output is not None and output not in outputs:
        raise WeightsError(f"{file} has no output '{output}', only {', '.join(outputs)}")
    shape = [side if isinstance(side, int) else None for side in images[0].shape]
    last = shape[3] == 3 and shape[1] != 3
    if not last and shape[1] not in (3, None):
        raise WeightsError(f"{file} takes {images[0].shape}: neither (B, 3, H, W) nor (B, H, W, 3)")
    batch, height, width = (shape[axis] for axis in ((0, 1, 2) if last else (0, 2, 3)))
    return Network(session, images[0].name, output or outputs[0], _TYPES[images[0].type], last, batch, height, width)
