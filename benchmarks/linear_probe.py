"""How much a depth model's encoder knows about what things are: a linear classifier on its frozen features.

    python benchmarks/linear_probe.py runs/quickstart            # a trained run, or a registered model
    python benchmarks/linear_probe.py topformer/tiny --export encoder.safetensors

Depth Anything (section 4.3) claims that its encoder transfers to segmentation. Label maps are generated here: scenes, each
pixel labelled as sky, box, ellipsoid or cone. The features of one tap are upsampled to the label map, a linear layer is
trained on them by cross entropy, and mean intersection over union is measured on scenes of the test split. The same
architecture with random weights stands beside it, which is what the number has to be compared with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dadkit
from dadkit.data import ProceduralScenes
from dadkit.interfaces import DepthModel
from dadkit.training.encoder import export_encoder
from dadkit.training.features import to_grid

CLASSES = ("sky", "box", "ellipsoid", "cone")


def label_maps(split: str, scenes: int, size: int) -> tuple[Tensor, Tensor]:
    """Images (N, 3, size, size) in [0, 1] and labels (N, size, size), indices into :data:`CLASSES`."""
    data = ProceduralScenes(count=scenes, size=size, split=split)
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
    taps = [to_grid(model(part).features[tap].float(), (part.shape[-2], part.shape[-1])) for part in images.split(batch)]
    return torch.cat(taps)


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


def scrambled(model: DepthModel) -> DepthModel:
    """The same architecture with random weights: each tensor's own values in a random order."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            order = torch.randperm(parameter.numel(), generator=generator)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return model


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run and print; answers with the two numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run's folder, a model.safetensors, or a registered name")
    parser.add_argument("--tap", default="tokens", help="feature tap (default: tokens)")
    parser.add_argument("--scenes", type=int, default=120, help="scenes to train on; a third as many to test on")
    parser.add_argument("--size", type=int, default=96, help="pixels per side")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--export", type=Path, help="also write the encoder's weights here (safetensors)")
    chosen = parser.parse_args(arguments)
    model = dadkit.load_model(chosen.model)
    if chosen.export is not None:
        export_encoder(model, chosen.export)
    train = label_maps("train", chosen.scenes, chosen.size)
    test = label_maps("test", max(1, chosen.scenes // 3), chosen.size)
    found: dict[str, float] = {}
    for name, one in (("model", model), ("random", None)):
        network = scrambled(model) if one is None else one
        taps = [(features(network, images, chosen.tap), labels) for images, labels in (train, test)]
        found[name] = probe(taps[0], taps[1], steps=chosen.steps)
        print(f"{name:<8} mIoU {found[name]:.3f}")
    return found


if __name__ == "__main__":
    main()
