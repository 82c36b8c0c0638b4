"""ncnn, small and fast on ARM: a .param file, with its weights in a .bin file and its facts in a .json file beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from dadkit.interfaces import Exporter, ExportRequest

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NcnnExporter"]


class NcnnExporter(Exporter):
    """One image (3, height, width) of one size at a time, in RGB from 0 to 1; input ``in0``, output ``out0``.

    ``fp16`` stores the weights in half precision. :meth:`open` computes in float32; ncnn's own default is half precision where
    the processor has it.
    """

    suffix = ".param"
    precisions = ("fp32", "fp16")
    any_size = False

    def write(self, network: nn.Module, path: Path, request: ExportRequest) -> None:
        """Trace, and translate by pnnx."""
        import pnnx

        if request.input == "uint8":
            raise ValueError("ncnn takes floats; Mat::from_pixels and substract_mean_normalize make them of a camera's bytes")
        example = request.example()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch.jit is what pnnx reads, and torch calls it old
            torch.jit.trace(network, example, check_trace=False).save(f"{folder}/model.pt")
            shape = f"inputshape=[{','.join(map(str, example.shape))}]f32"
            command = [pnnx.EXEC_PATH, "model.pt", shape, f"fp16={int(request.precision == 'fp16')}"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            written = Path(folder) / "model.ncnn.param"
            if done.returncode or not written.is_file():
                raise RuntimeError(f"pnnx ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
            shutil.move(written.with_suffix(".bin"), path.with_suffix(".bin"))
            shutil.move(written, path)
        self.annotate(path, {})

    def companions(self, path: Path) -> Sequence[Path]:
        """Returns the weights and the facts."""
        return [path.with_suffix(".bin"), path.with_suffix(".json")]

    def annotate(self, path: Path, metadata: Mapping[str, str]) -> None:
        """In the .json file: neither of ncnn's own files has room for it."""
        facts = path.with_suffix(".json")
        facts.write_text(json.dumps({**self.metadata(path), **metadata}), encoding="utf-8")

    def metadata(self, path: Path) -> Mapping[str, str]:
        """Returns what :meth:`annotate` stored."""
        facts = path.with_suffix(".json")
        found: Mapping[str, str] = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {}
        return found

    def open(self, path: Path, *, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
        """On the processor, in float32."""
        import ncnn
        import numpy as np

        net = ncnn.Net()
        options = net.opt
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = options.use_bf16_storage = False
        if threads:
            options.num_threads = threads
        if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
            raise RuntimeError(f"ncnn cannot read {path}")

        def run(images: np.ndarray) -> np.ndarray:
            maps = []
            for image in images:
                image = np.ascontiguousarray(image)  # ncnn looks at this memory while it computes
                extractor = net.create_extractor()
                extractor.input("in0", ncnn.Mat(image))
                maps.append(np.array(extractor.extract("out0")[1]))
            return np.stack(maps)

        return run
