"""CoreML, for iPhones and Macs: an .mlpackage, which is a folder."""

from __future__ import annotations

import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from dadkit.interfaces import Exporter, ExportRequest

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CoreMlExporter"]


class CoreMlExporter(Exporter):
    """One image of one size at a time, for iOS 17, macOS 14 and later; input ``image``, output ``depth``.

    Args:
        picture: the file takes a picture (``CVPixelBuffer``) of its size, as a camera gives it, instead of an array
            (1, 3, height, width) from 0 to 1.

    CoreML runs on Apple's systems only. Elsewhere the file is converted and not run, and says so.
    """

    suffix = ".mlpackage"
    precisions = ("fp32", "fp16")
    any_size = False
    runs_here = None if sys.platform == "darwin" else "CoreML runs on Apple's systems only"

    def __init__(self, picture: bool = False) -> None:
        self.picture = picture

    def write(self, network: nn.Module, path: Path, request: ExportRequest) -> None:
        """From the graph of torch.export, as an ML program."""
        if request.input == "uint8":
            raise ValueError("CoreML takes a camera's picture as such: --to coreml:picture=true")
        ct = _coremltools()
        shape = tuple(request.example().shape)
        if self.picture:
            image = ct.ImageType(name="image", shape=shape, scale=1 / 255, color_layout=ct.colorlayout.RGB)
        else:
            image = ct.TensorType(name="image", shape=shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ct.convert(
                request.trace(network).run_decompositions({}),
                inputs=[image],
                outputs=[ct.TensorType(name="depth")],
                convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS17,
                compute_precision=ct.precision.FLOAT16 if request.precision == "fp16" else ct.precision.FLOAT32,
                skip_model_load=True,
            ).save(str(path))

    def annotate(self, path: Path, metadata: Mapping[str, str]) -> None:
        """As the model's user-defined metadata, which Xcode shows."""
        model = _coremltools().models.MLModel(str(path), skip_model_load=True)
        model.user_defined_metadata.update(metadata)
        renamed = path.with_name(f"annotated-{path.name}")
        model.save(str(renamed))
        shutil.rmtree(path)
        renamed.rename(path)

    def metadata(self, path: Path) -> Mapping[str, str]:
        """Returns what :meth:`annotate` stored."""
        return dict(_coremltools().models.MLModel(str(path), skip_model_load=True).user_defined_metadata)

    def open(self, path: Path, *, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
        """On a Mac; CoreML chooses processor, GPU or neural engine, and its threads."""
        import numpy as np
        from PIL import Image

        model = _coremltools().models.MLModel(str(path))

        def run(images: np.ndarray) -> np.ndarray:
            image: Any = images
            if self.picture:
                image = Image.fromarray((images[0].transpose(1, 2, 0) * 255).round().astype(np.uint8))
            answer: np.ndarray = np.asarray(model.predict({"image": image})["depth"], dtype=np.float32)
            return answer

        return run


def _coremltools() -> Any:
    """Returns the package, without its advice about versions of torch and parts that are for Macs."""
    logger = logging.getLogger("coremltools")
    logger.setLevel(logging.ERROR)
    import coremltools

    return coremltools
