"""Depth Anything 3, MoGe and Lotus beside their official code: tensors, largest differences, training steps, memory.

    python benchmarks/official.py OFFICIAL PHOTOGRAPHS [MODEL ...] [--output benchmarks/results/official.json]

OFFICIAL holds the official code: the packages of `pip download --no-deps depth-anything-3==0.1.1 dlr-moge==2.0.0
dlr-utils3d==1.3` unzipped, `lotus/` (EnVision-Research/Lotus), and what they import (`pip install --target OFFICIAL --no-deps
omegaconf addict einops antlr4-python3-runtime==4.9.3`). None of it is a dependency. PHOTOGRAPHS is a folder of images.

Each model runs in a process of its own. It gets random weights, saved as an official file; dadkit reads that file. Both answer
the same random images in float64, one after the other, and the largest relative difference of any pixel is kept. Then three
steps of `dadkit train` have the model as teacher, with this file, on the photographs. da3/giant needs 10 GiB.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dadkit
from dadkit.interfaces import FrozenTeacher

DA3 = ("small", "base", "mono-large", "metric-large", "large", "giant")
MOGE = ("v1-large", "v2-small", "v2-base", "v2-large")
MODELS = (*(f"da3/{name}" for name in DA3), *(f"moge/{name}" for name in MOGE), "genpercept/lotus")
SIZES = {
    "da3": ((140, 196), (252, 126), (518, 518)),
    "da3/giant": ((140, 196), (252, 126), (196, 196)),
    "moge": ((150, 200), (260, 130), (200, 200)),
    "genpercept": ((128, 192), (256, 64), (128, 128)),
}
TOKENS = 150
# What a model needs beside its weights to teach here: metres need a camera.
OPTIONS: dict[str, dict[str, Any]] = {"da3/metric-large": {"fov": 60}, "genpercept/lotus": {"space": "disparity"}}


def randomise(model: nn.Module) -> nn.Module:
    """Every parameter random and alive: matrices by fan-in, norms near 1, the exponentials' arguments small."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            elif name.endswith("gamma"):
                parameter.copy_(0.3 * noise)
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            else:
                parameter.copy_(0.05 * noise)
            if name.endswith("fc_fov.0.bias"):
                parameter.add_(1.0)  # fields of view pass a ReLU
    return model.eval()


class DA3Official:
    """The official network, without its filling of the sky."""

    def __init__(self, name: str, official: Path) -> None:
        for absent in ("evo", "evo.core", "evo.core.trajectory"):  # of poses; giant imports it
            sys.modules.setdefault(absent, types.ModuleType(absent))
        sys.modules["evo.core.trajectory"].PosePath3D = object  # type: ignore[attr-defined]
        cfg = importlib.import_module("depth_anything_3.cfg")
        self.stem = f"da3{name}" if name.endswith("-large") else f"da3-{name}"
        # Linear warm-ups of stochastic depth are read from a tensor, so it cannot be built without memory.
        self.net = cfg.create_object(cfg.load_config(str(official / "depth_anything_3" / "configs" / f"{self.stem}.yaml")))
        self.state = {f"model.{key}": value for key, value in self.net.state_dict().items()}

    def save(self, folder: Path) -> Path:
        """As released: model.safetensors beside config.json."""
        save_file = importlib.import_module("safetensors.torch").save_file
        # The official code shares one norm among levels; the released files hold it at each.
        whole: dict[str, Tensor] = {}
        for key, value in self.state.items():
            shared = any(value.data_ptr() == other.data_ptr() for other in whole.values())
            whole[key] = value.clone() if shared else value.contiguous()
        save_file(whole, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_name": self.stem}))
        return folder

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """The official answers that are compared."""
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        height, width = images.shape[-2:]
        features = self.net.backbone(((images - mean) / std)[:, None])[0]
        raw = self.net.head(features, height, width, patch_start_idx=0)
        found = {"depth": raw["depth"][:, 0]}
        if "sky" in raw:
            found["sky"] = raw["sky"][:, 0] >= 0.3
        if getattr(self.net, "cam_dec", None) is not None:
            # The last tap's camera token; the decoder itself casts to float32.
            field = self.net.cam_dec.float()(features[-1][1].float())[..., 7:]
            half = torch.tan(field.double()[:, 0] / 2).clamp(min=1e-6)
            self.net.cam_dec.to(images.dtype)
            found["focal"] = torch.stack([width / 2 / half[:, 1], height / 2 / half[:, 0]], -1)
        return found

    @staticmethod
    @torch.no_grad()
    def ours(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """dadkit's answers under the same names."""
        estimate = model.estimate(model.normalized(images))
        found = {"depth": estimate.depth[:, 0]}
        if estimate.sky is not None:
            found["sky"] = estimate.sky[:, 0]
        if estimate.intrinsics is not None:
            found["focal"] = torch.stack([estimate.intrinsics[:, 0, 0], estimate.intrinsics[:, 1, 1]], -1)
        return found


class MoGeOfficial:
    """The official network before its solve for shift and focal length, whose form differs."""

    def __init__(self, name: str, official: Path) -> None:
        for absent in ("cv2", "moderngl", "matplotlib", "matplotlib.pyplot", "trimesh"):
            with contextlib.suppress(ImportError):
                importlib.import_module(absent)
                continue
            sys.modules[absent] = types.ModuleType(absent)
        version, size = name.split("-")
        encoder = f"dinov2_vit{size[0]}14"
        width = {"small": 384, "base": 768, "large": 1024}[size]
        if version == "v1":
            self.config: dict[str, Any] = {
                "encoder": encoder, "intermediate_layers": 4, "dim_proj": 512, "dim_upsample": [256, 128, 64],
                "dim_times_res_block_hidden": 2, "num_res_blocks": 2, "remap_output": "exp",
            }  # fmt: skip
        else:
            dims = [width, 256, 128, 64, 32]
            stack = {
                "dim_res_blocks": dims, "res_block_in_norm": "none", "res_block_hidden_norm": "none",
                "resamplers": ["conv_transpose"] * 3 + ["bilinear"],
            }  # fmt: skip
            blocks = [0, 2, 2, 2, 0] if size == "large" else [0, 1, 1, 1, 0]

            def head(channels: int) -> dict[str, Any]:
                return {**stack, "dim_in": dims, "dim_out": [None] * 4 + [channels], "num_res_blocks": [0, 1, 1, 1, 0]}

            taps = [5, 11, 17, 23] if size == "large" else [5, 11]
            self.config = {
                "encoder": {"backbone": encoder, "intermediate_layers": taps, "dim_out": width},
                "neck": {**stack, "dim_in": [width + 2, 2, 2, 2, 2], "dim_out": [None] * 5, "num_res_blocks": blocks},
                "points_head": head(3),
                "mask_head": head(1),
                "scale_head": {"dims": [width, width, width, 1]},
                "remap_output": "exp",
            }
            if size != "large":  # moge-2-vitl is released without normals, the smaller ones with them only
                self.config["normal_head"] = head(3)
        self.net = importlib.import_module(f"moge.model.{version}").MoGeModel(**self.config)
        self.state = self.net.state_dict()

    def save(self, folder: Path) -> Path:
        """As released: a pickle of configuration and tensors."""
        torch.save({"model_config": self.config, "model": self.state}, folder / "model.pt")
        return folder / "model.pt"

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """The official answers that are compared."""
        answer = self.net(images, num_tokens=TOKENS)
        scale = answer.get("metric_scale", images.new_ones(len(images)))
        return {"depth": answer["points"][..., 2] * scale[:, None, None], "valid": answer["mask"] > 0.5}

    @staticmethod
    @torch.no_grad()
    def ours(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """dadkit's answers under the same names, without the solve."""
        module = importlib.import_module("dadkit_moge.model")
        solve, module.focal_and_shift = module.focal_and_shift, lambda p, *_: (p.new_ones(len(p)), p.new_zeros(len(p)))
        model.tokens = TOKENS
        answer = model.predict_batch(images)
        module.focal_and_shift = solve
        return {"depth": answer.depth[:, 0], "valid": answer.valid[:, 0]}


class LotusOfficial:
    """The official pipeline, with the mean of the VAE's posterior in place of its draw; tiny networks for the function."""

    def __init__(self, name: str, official: Path) -> None:
        sys.path.insert(0, str(official / "lotus"))
        for absent in ("tensorboard", "matplotlib"):
            with contextlib.suppress(ImportError):
                importlib.import_module(absent)
                continue
            sys.modules[absent] = types.ModuleType(absent)
        diffusers = importlib.import_module("diffusers")
        loaders = importlib.import_module("diffusers.loaders")
        if not hasattr(loaders, "LoraLoaderMixin"):
            loaders.LoraLoaderMixin = loaders.StableDiffusionLoraLoaderMixin
        architecture = importlib.import_module("dadkit_genpercept.architecture")
        config = architecture.ARCHITECTURES["tiny"]
        pipeline = importlib.import_module("pipeline").LotusDPipeline
        unet = diffusers.UNet2DConditionModel.from_config({**config.unet, **architecture.TASK, "sample_size": 96})
        self.vae = randomise(diffusers.AutoencoderKL.from_config(dict(config.vae)))
        self.net, self.pipeline = unet, pipeline
        real = architecture.ARCHITECTURES["sd21"]
        with torch.device("meta"):
            whole = diffusers.UNet2DConditionModel.from_config({**real.unet, **architecture.TASK})
            vae = diffusers.AutoencoderKL.from_config(dict(real.vae))
        self.state = {**whole.state_dict(), **{f"vae.{name}": value for name, value in vae.state_dict().items()}}
        self.prompt = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(3))

    def save(self, folder: Path) -> Path:
        """As released, but for the text encoder, in whose place its answer is given."""
        self.net.save_pretrained(folder / "unet")
        self.vae.save_pretrained(folder / "vae")
        importlib.import_module("safetensors.torch").save_file({"prompt": self.prompt}, folder / "prompt.safetensors")
        return folder

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """The official answers that are compared."""
        distribution = importlib.import_module("diffusers.models.autoencoders.vae").DiagonalGaussianDistribution
        distribution.sample = lambda self, generator=None: self.mode()
        scheduler = importlib.import_module("diffusers").DDIMScheduler()
        self.vae.to(images.dtype)
        run = self.pipeline(self.vae, None, None, self.net, scheduler, None, None, requires_safety_checker=False)
        task = torch.tensor([[1.0, 0.0]], dtype=images.dtype)
        answers = [
            run(
                rgb_in=image[None] * 2 - 1, prompt_embeds=self.prompt.to(images.dtype), timesteps=[999], output_type="np",
                task_emb=torch.cat([task.sin(), task.cos()], -1), processing_res=0, match_input_res=False,
            ).images[0].mean(-1)
            for image in images
        ]  # fmt: skip
        return {"depth": torch.stack([torch.as_tensor(answer) for answer in answers])}

    @staticmethod
    @torch.no_grad()
    def ours(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """dadkit's answer."""
        return {"depth": model.estimate(images * 2 - 1)[0][:, 0]}


FAMILIES: dict[str, Callable[[str, Path], Any]] = {"da3": DA3Official, "moge": MoGeOfficial, "genpercept": LotusOfficial}


@contextlib.contextmanager
def inside(official: Path) -> Iterator[None]:
    """While the official code can be imported."""
    sys.path.insert(0, str(official))
    try:
        yield
    finally:
        sys.path.remove(str(official))


def build(component: str, weights: Path) -> nn.Module:
    """dadkit's model from the official file."""
    if component == "genpercept/lotus":
        genpercept = importlib.import_module("dadkit_genpercept.model").GenPercept
        return genpercept("lotus", space="disparity", weights=weights, embedding=weights / "prompt.safetensors")
    teacher = dadkit.load_teacher(component, weights=str(weights), **OPTIONS.get(component, {}))
    return teacher.model if isinstance(teacher, FrozenTeacher) else teacher


def compare(component: str, official: Path, folder: Path, *, differences: bool = True) -> dict[str, Any]:
    """Writes the official file. Returns its tensors, and the largest relative difference at three sizes."""
    family, name = component.split("/")
    sizes = SIZES.get(component, SIZES[family]) if differences else ()
    with inside(official), torch.no_grad():
        theirs = FAMILIES[family](name, official)
        count = sum(value.numel() for name, value in theirs.state.items() if not name.endswith(("image_mean", "image_std")))
        row: dict[str, Any] = {"tensors": len(theirs.state), "parameters": count}
        randomise(theirs.net)
        path = theirs.save(folder)
        theirs.state = {}  # it holds the tensors of float32 beside those of float64
        dtype = torch.float64
        images = [
            torch.rand(2 if max(size) < 300 else 1, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(7))
            for size in sizes
        ]
        theirs.net.to(dtype)
        expected = [theirs(image) for image in images]
        ours, theirs.net = theirs.ours, None
    del theirs
    if not sizes:
        return row
    model = build(component, path).to(dtype)
    row["own_parameters"] = sum(parameter.numel() for parameter in model.parameters())
    row["dtype"] = str(dtype).removeprefix("torch.")
    for size, image, want in zip(sizes, images, expected, strict=True):
        got = ours(model, image)
        for key, value in want.items():
            if value.dtype == torch.bool:
                differs = (got[key] != value).double().mean()
            else:
                differs = ((got[key] - value) / value).abs().max()
            row.setdefault(key, {})["{} x {}".format(*size)] = float(differs)
    return row


def train(component: str, weights: Path | None, photographs: Path, folder: Path) -> dict[str, Any]:
    """Three steps with the model as teacher, on photographs."""
    options = {"weights": str(weights) if weights else "none", **OPTIONS.get(component, {})}
    # Affine depth teaches students of depth only.
    space = "depth" if component == "da3/mono-large" else "disparity"
    student = {"name": "topformer/tiny", "options": {"space": space}}
    view = 256 if component == "genpercept/lotus" else 266
    config = {
        "name": "official",
        "seed": 0,
        "iterations": 3,
        "batch_size": 2,
        "log_every": 1,
        "report": False,
        "student": student,
        "teachers": [{"name": component, "options": options}],
        "data": {"root": str(photographs), "workers": 0},
        "contexts": {"name": "shared", "options": {"view_size": view, "crop_min": 300}},
        "losses": {"local_global": {"weight": 0}, "anchor": {"warmup_maps": 2}},
    }
    (folder / "train.yaml").write_text(json.dumps(config))
    start, log = time.perf_counter(), folder / "log.txt"
    with log.open("w") as out:
        child = subprocess.Popen([sys.executable, "-m", "dadkit", "train", "train.yaml"], cwd=folder, stdout=out, stderr=out)
        _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{component}: {log.read_text()[-3000:]}")
    lines = (folder / "runs" / "official" / "metrics.jsonl").read_text().splitlines()
    losses = [row["loss/total"] for row in map(json.loads, lines) if "loss/total" in row]
    return {
        "losses": losses,
        "seconds": round(time.perf_counter() - start, 1),
        "memory_gib": round(used.ru_maxrss / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("official", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "official.json")
    parser.add_argument("--part", choices=["compare", "train"], help=argparse.SUPPRESS)
    parser.add_argument("--train", action="store_true", help="keep the differences of an earlier run, and only train")
    given = parser.parse_args()
    official, photographs = given.official.resolve(), given.photographs.resolve()
    rows = json.loads(given.output.read_text()) if given.output.is_file() else {}
    for component in given.models:
        with tempfile.TemporaryDirectory() as folder:
            if given.part == "compare":
                print(json.dumps(compare(component, official, Path(given.output), differences=not given.train)))
                return
            command = [sys.executable, __file__, str(official), str(photographs), component, "--part", "compare"]
            command += ["--output", folder, *(["--train"] if given.train else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{component}: {done.stderr[-3000:]}")
            row = json.loads(done.stdout.splitlines()[-1])
            path = Path(folder) / "model.pt" if component.startswith("moge") else Path(folder)
            row["train"] = train(component, None if component == "genpercept/lotus" else path, photographs, Path(folder))
            rows[component] = {**rows.get(component, {}), **row}
            given.output.write_text(json.dumps(rows, indent=1) + "\n")
            print(component, json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
