"""The core's own components, registered through the same hooks as any plugin's; their names carry no prefix."""

from __future__ import annotations

from dadkit.plugin.hookspecs import Register, hookimpl

__all__ = [
    "register_completers",
    "register_context_samplers",
    "register_datasets",
    "register_exporters",
    "register_hooks",
    "register_losses",
    "register_normalizers",
]


@hookimpl
def register_normalizers(register: Register) -> None:
    """The four normalizers of Distill Any Depth."""
    register(
        "hybrid", "dadkit.normalizers:Hybrid", api=1, summary="median and MAD over the whole range, its halves and its quarters"
    )
    register("global", "dadkit.normalizers:Global", api=1, summary="median and MAD over the whole map")
    register("local", "dadkit.normalizers:Local", api=1, summary="median and MAD over each quarter of the range")
    register("none", "dadkit.normalizers:Identity", api=1, summary="the maps as they are: L1 on raw values")


@hookimpl
def register_context_samplers(register: Register) -> None:
    """Where student and teacher look."""
    register("whole", "dadkit.contexts:Whole", api=1, summary="the whole image, once")
    register("shared", "dadkit.contexts:Shared", api=1, summary="one random square region, the same for both")
    register(
        "local-global",
        "dadkit.contexts:LocalGlobal",
        api=1,
        summary="one region for both, and overlapping patches of it for the teacher alone",
    )


@hookimpl
def register_losses(register: Register) -> None:
    """Terms that may be named under ``losses.extra``."""
    register("hybrid-norm", "dadkit.losses:HybridNormLoss", api=1, summary="L1 after hybrid normalisation (Distill Any Depth)")
    register("ssi", "dadkit.losses:SSILoss", api=1, summary="L1 after normalising the whole map: scale- and shift-invariant")
    register("local-norm", "dadkit.losses:LocalNormLoss", api=1, summary="L1 after normalising each quarter of the range")
    register("l1", "dadkit.losses:L1Loss", api=1, summary="L1 on the maps as they are")
    register("gradient-matching", "dadkit.losses:GradientMatchingLoss", api=1, summary="multi-scale gradient matching (MiDaS)")
    register("mse", "dadkit.losses:MSELoss", api=1, summary="squared error on the maps as they are")
    register("silog", "dadkit.losses:SILogLoss", api=1, summary="scale-invariant logarithmic error: metric fine-tuning (Eigen)")
    for divergence in ("kl", "mse"):
        register(
            f"channel-{divergence}",
            "dadkit.losses:ChannelWiseLoss",
            api=1,
            summary=f"the map as a distribution over pixels, compared by {divergence.upper()} (Robust Lightweight)",
            arguments={"divergence": divergence},
        )
    register(
        "log-l1",
        "dadkit.losses:LogL1Loss",
        api=1,
        summary="L1 between logarithms, and between their gradients: relative errors of metres",
    )
    register("geometric", "dadkit.losses:GeometricLoss", api=1, summary="both maps as point clouds (Robust Lightweight)")


@hookimpl
def register_hooks(register: Register) -> None:
    """Loggers."""
    module = "dadkit.training.loggers"
    register("tensorboard", f"{module}:TensorBoard", api=1, summary="curves and sample grids in TensorBoard's event files")
    for name, title in (("wandb", "Weights & Biases"), ("mlflow", "MLflow"), ("trackio", "trackio")):
        register(name, f"{module}:Tracker", api=1, arguments={"name": name}, summary=f"numbers and sample grids to {title}")


@hookimpl
def register_datasets(register: Register) -> None:
    """Where images and true depth come from."""
    register("images", "dadkit.data:Images", api=1, summary="unlabelled images: folders, list files, tar shards")
    register("pairs", "dadkit.data:DepthPairs", api=1, summary="images with depth files of a declared encoding and space")
    register("labels", "dadkit.data:Labels", api=1, summary="images with a teacher's maps that `dadkit label` stored")
    for name, target, space, terms, summary in _PUBLIC_DATASETS:
        register(name, f"dadkit.data.benchmarks.{target}", api=1, space=space, license=terms, summary=summary)


@hookimpl
def register_completers(register: Register) -> None:
    """What makes dense metres of sparse ones."""
    register("align", "dadkit.completion.align:Align", api=1, summary="closed form over the map of any depth model")
    register(
        "refine", "dadkit.completion.refine:Refine", api=1, summary="the closed form, corrected by a small trained network"
    )


@hookimpl
def register_exporters(register: Register) -> None:
    """Formats for other runtimes."""
    register(
        "onnx",
        "dadkit.export.onnx:OnnxExporter",
        api=1,
        summary="ONNX at any size, for onnxruntime and what reads its files",
        requires=["dadkit[onnx]"],
    )
    register(
        "openvino",
        "dadkit.export.openvino:OpenVinoExporter",
        api=1,
        summary="OpenVINO at any size, for processors of Intel and AMD; fastest with int8",
        requires=["dadkit[openvino]"],
    )
    register(
        "ncnn",
        "dadkit.export.ncnn:NcnnExporter",
        api=1,
        summary="ncnn at one size, small and fast on ARM",
        requires=["dadkit[ncnn]"],
    )
    register(
        "litert",
        "dadkit.export.litert:LiteRtExporter",
        api=1,
        summary="LiteRT (.tflite) at one size, for Android and small boards",
        requires=["dadkit[litert]"],
    )
    register(
        "coreml",
        "dadkit.export.coreml:CoreMlExporter",
        api=1,
        summary="CoreML at one size, for iPhones and Macs; converted anywhere, run on a Mac",
        requires=["dadkit[coreml]"],
    )
    register(
        "executorch",
        "dadkit.export.executorch:ExecuTorchExporter",
        api=1,
        summary="ExecuTorch at one size, by XNNPACK",
        requires=["dadkit[executorch]"],
    )


_ASK = "see its page; research"
_PUBLIC_DATASETS = (
    # name, where it is read, space, licence, summary; docs/evaluation.md says the same at more length
    ("nyuv2", "nyu:NYUv2", "metric", _ASK, "NYU Depth V2, 654 test images: PNGs with a list, or the MATLAB file"),
    ("nyu-conti", "nyu:NYUConti", "metric", _ASK, "NYU Depth V2 at 304 x 228 with fixed points, for completion"),
    ("kitti-eigen", "kitti:KITTIEigen", "metric", "CC-BY-NC-SA-3.0", "KITTI, Eigen's test split: 652 of 697 images"),
    ("kitti-val", "kitti:KITTIVal", "metric", "CC-BY-NC-SA-3.0", "KITTI depth completion, val_selection_cropped: 1,000 images"),
    ("eth3d", "photographs:ETH3D", "metric", "CC-BY-NC-SA-4.0", "ETH3D, 454 photographs with laser depth"),
    ("scannet", "photographs:ScanNet", "metric", "ScanNet terms of use", "ScanNet, the public list of 800 frames"),
    ("diode", "photographs:DIODE", "metric", "MIT", "DIODE, validation: indoor 325, outdoor 446"),
    ("ibims1", "photographs:IBims1", "metric", _ASK, "iBims-1, 100 rooms with laser depth"),
    ("sintel", "renderings:Sintel", "metric", _ASK, "MPI Sintel, 1,064 rendered frames"),
    ("ddad", "sensors:DDAD", "metric", "CC-BY-NC-SA-4.0", "DDAD, extracted frames with LiDAR depth"),
    (
        "void",
        "sensors:VOID",
        "metric",
        "academic, see its page",
        "VOID, 800 images with points of odometry, for completion",
    ),
    ("sunrgbd", "sensors:SUNRGBD", "metric", _ASK, "SUN RGB-D, 5,050 test images of four sensors"),
    ("hypersim", "renderings:Hypersim", "metric", "CC-BY-SA-3.0", "Hypersim, rendered rooms; distances become depth"),
    ("vkitti2", "renderings:VKITTI2", "metric", "CC-BY-NC-SA-3.0", "Virtual KITTI 2, rendered streets with sky"),
    ("da-2k", "pairs_of_points:DA2K", None, _ASK, "DA-2K, 2,000 annotated pairs of points"),
    ("diw", "pairs_of_points:DIW", None, _ASK, "Depth in the Wild, one annotated pair of points an image"),
    ("blendedmvs", "training_sets:BlendedMVS", "disparity", "CC-BY-4.0", "BlendedMVS, to train: rendered reconstructions"),
    ("diml", "training_sets:DIML", "metric", _ASK, "DIML/CVL RGB-D, to train: rooms and streets"),
    ("hrwsi", "training_sets:HRWSI", "disparity", _ASK, "HR-WSI, to train: web stereo photographs"),
    ("irs", "training_sets:IRS", "disparity", _ASK, "IRS, to train: rendered indoor stereo"),
    ("megadepth", "training_sets:MegaDepth", "disparity", "CC-BY-4.0", "MegaDepth v1, to train: landmarks"),
    ("tartanair", "training_sets:TartanAir", "metric", "CC-BY-4.0", "TartanAir, to train: rendered flights"),
)
