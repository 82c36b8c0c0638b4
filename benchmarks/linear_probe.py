"""How much a depth model's encoder knows about what things are: a linear classifier on its frozen features.

    python benchmarks/linear_probe.py runs/quickstart                          # a trained run
    python benchmarks/linear_probe.py dav2/small:weights=depth_anything_v2_vits.pth --seeds 5

Depth Anything (section 4.3) claims that its encoder transfers to segmentation. Label maps are generated here: scenes, each
pixel labelled as sky, box, ellipsoid or cone. The features of one tap are upsampled to the label map, a linear layer is
trained on them by cross entropy, and mean intersection over union is measured on scenes of the test split.

What the number has to be compared with stands beside it, probed in the same way:

* untrained: the same architecture with its initial weights;
* shuffled: with the trained weights, each tensor's values in a random order, so that only their sizes are left;
* pixels: no network at all, the image averaged over the cells of the tap's grid.

Every seed has training scenes, layer, untrained and shuffled weights of its own; the test scenes are the same. Of differences,
seed by seed, the mean and its 95 % interval (Student's t) are printed.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from scipy.stats import t as student_t
from torch import Tensor, nn
from torch.nn import functional as F

import dadkit
from dadkit.cli.arguments import split_model
from dadkit.data import ProceduralScenes
from dadkit.interfaces import DepthModel
from dadkit.loading import load_student, read_card, rebuild_options, result_path

CLASSES = ("sky", "box", "ellipsoid", "cone")
TRAINED = "model"
Features = Callable[[Tensor], Tensor]


def label_maps(split: str, scenes: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (N, 3, size, size) in [0, 1] and labels (N, size, size), indices into :data:`CLASSES`."""
    data = ProceduralScenes(count=scenes, size=size, split=split, seed=seed)
    images, labels = [], []
    for index in range(scenes):
        picture = data.picture(index)
        kinds = torch.tensor([*(data.scene(index).primitives.kind + 1).tolist(), 0])
        images.append(torch.from_numpy(picture.image).float() / 255)
        labels.append(kinds[torch.from_numpy(picture.index).long()])  # -1, sky, is the last entry: 0
    return torch.stack(images), torch.stack(labels)


@torch.no_grad()
def features(model: DepthModel, images: Tensor, tap: str, batch: int = 8) -> Tensor:
    """(N, C, h, w) of a frozen model."""
    model.eval()
    return torch.cat([_to_grid(model(part).features[tap].float()) for part in images.split(batch)])


def _to_grid(tap: Tensor) -> Tensor:
    """(B, C, h, w) of a tap, whose tokens (B, h * h, C) are those of a square picture."""
    side = math.isqrt(tap.shape[1])
    return tap if tap.ndim == 4 else tap.transpose(1, 2).unflatten(2, (side, side))


def probe(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *, steps: int, seed: int = 0) -> float:
    """Mean intersection over union of a linear classifier; ``train`` and ``test`` are features and labels."""
    torch.manual_seed(seed)
    mean, std = train[0].mean((0, 2, 3), keepdim=True), train[0].std((0, 2, 3), keepdim=True) + 1e-6
    layer = nn.Conv2d(train[0].shape[1], len(CLASSES), 1)
    adam = torch.optim.Adam(layer.parameters(), lr=1e-2)
    for step in range(steps):
        rows = torch.arange(step * 8, step * 8 + 8) % len(train[0])
        loss = F.cross_entropy(_upsampled(layer, (train[0][rows] - mean) / std, train[1]), train[1][rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        answer = _upsampled(layer, (test[0] - mean) / std, test[1]).argmax(1)
    found = []
    for index in range(len(CLASSES)):
        a, b = answer == index, test[1] == index
        if (a | b).any():
            found.append(((a & b).sum() / (a | b).sum()).item())
    return sum(found) / len(found)


def _upsampled(layer: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    logits: Tensor = F.interpolate(layer(x), labels.shape[-2:], mode="bilinear", align_corners=False)
    return logits


def shuffled(model: DepthModel, seed: int) -> DepthModel:
    """A copy with each parameter's own values in a random order."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            order = torch.randperm(parameter.numel(), generator=generator)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other


def untrained(name: str, seed: int) -> DepthModel:
    """The same architecture with initial weights: of a run its student, of a registered name the student of that name."""
    torch.manual_seed(seed)
    if Path(name).expanduser().exists():
        card = read_card(result_path(Path(name).expanduser()))
        return load_student(card.component, **card.options).eval()
    component, options = split_model(name)
    return load_student(component, **rebuild_options(options)).eval()


def contenders(name: str, model: DepthModel, tap: str, seed: int) -> dict[str, Features]:
    """Row -> what turns images into features."""

    def tapped(network: DepthModel) -> Features:
        return lambda images: features(network, images, tap)

    def pixels(images: Tensor) -> Tensor:
        grid = features(model, images[:1], tap).shape[-2:]
        return F.adaptive_avg_pool2d(images, grid)

    rows = {TRAINED: model, "untrained": untrained(name, seed), "shuffled": shuffled(model, seed)}
    return {**{row: tapped(network) for row, network in rows.items()}, "pixels": pixels}


def interval(values: Sequence[float]) -> str:
    """Mean and half the width of its 95 % interval over seeds, which one seed does not have."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:+.3f}"
    half = float(student_t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Run and print; answers with mean intersection over union of each row, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run's folder, a model.safetensors, or a registered name with options")
    parser.add_argument("--tap", default="tokens", help="feature tap (default: tokens)")
    parser.add_argument("--scenes", type=int, default=120, help="scenes to train on; as many to test on")
    parser.add_argument("--size", type=int, default=96, help="pixels per side")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    name, options = split_model(chosen.model)
    model = dadkit.load_model(name, **options)
    test = label_maps("test", chosen.scenes, chosen.size)
    found: dict[str, list[float]] = {}
    for seed in range(chosen.seeds):
        train = label_maps("train", chosen.scenes, chosen.size, seed)
        for row, see in contenders(chosen.model, model, chosen.tap, seed).items():
            value = probe((see(train[0]), train[1]), (see(test[0]), test[1]), steps=chosen.steps, seed=seed)
            found.setdefault(row, []).append(value)
    for row, values in found.items():
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        beside = "" if row == TRAINED else f"   {TRAINED} is better by {interval(_difference(found, row))}"
        print(f"{row:<10} mIoU {statistics.fmean(values):.3f}{spread}{beside}")
    return found


def _difference(found: dict[str, list[float]], row: str) -> list[float]:
    return [a - b for a, b in zip(found[TRAINED], found[row], strict=True)]


if __name__ == "__main__":
    main()
