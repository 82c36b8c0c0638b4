"""The losses of dadkit in a training script of your own: torch, and nothing else, is needed.

python train.py --steps 60

A student learns from a teacher that nobody gave a scale: the teacher's disparity is multiplied and shifted at random for each
image, which does not matter to either loss. The whole step, student and losses, is compiled.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.losses import HybridNormLoss, LocalGlobalLoss

SIDE, PATCH = 64, 32
# Four overlapping patches of the view, x0, y0, x1, y1 in its pixels.
BOXES = torch.tensor([[0, 0, 40, 40], [24, 0, 64, 40], [0, 24, 40, 64], [24, 24, 64, 64]]).float()


def pictures(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) images and (B, 1, H, W) disparity: bright discs are near, on a floor that comes nearer."""
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    images, maps = [], []
    for _ in range(count):
        cx, cy, radius, near = torch.rand(4, generator=generator)
        disc = ((x - cx) ** 2 + (y - cy) ** 2).sqrt() < 0.1 + 0.3 * radius
        disparity = torch.where(disc, 0.5 + near, y)
        shade = torch.where(disc, 0.3 + 0.7 * near, 0.5 * y)
        images.append(torch.stack([shade, disc.float(), y]))
        maps.append(disparity[None])
    return torch.stack(images), torch.stack(maps)


def teacher(disparity: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A relative-depth teacher's answers: the view (B, 1, H, W) and patches (B, N, h, w), each of unknown scale and shift."""

    def in_some_units(maps: Tensor) -> Tensor:
        scale, shift = torch.rand(2, len(maps), 1, 1, 1, generator=generator)
        return (0.5 + 9 * scale) * maps + 20 * shift

    crops = [disparity[..., y0:y1, x0:x1] for x0, y0, x1, y1 in BOXES.int().tolist()]
    patches = torch.cat([F.interpolate(crop, (PATCH, PATCH), mode="bilinear", align_corners=False) for crop in crops], dim=1)
    return in_some_units(disparity), in_some_units(patches)


def main() -> None:
    """Train, and say how far the losses fell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--compiler", default="inductor", help="a backend of torch.compile")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    student = nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2),
        nn.GELU(),
        nn.Conv2d(16, 16, 5, padding=2),
        nn.GELU(),
        nn.Conv2d(16, 1, 1),
        nn.Softplus(),
    )
    shared, local_global = HybridNormLoss(), LocalGlobalLoss()  # medians and deviations over 7 segments of the teacher's range
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    boxes = BOXES.expand(arguments.batch, -1, -1)

    @torch.compile(backend=arguments.compiler, fullgraph=True)
    def loss_of(images: Tensor, view: Tensor, patches: Tensor) -> Tensor:
        disparity = student(images)
        return shared(disparity, view) + 0.5 * local_global(disparity, patches, boxes)

    losses = []
    for _ in range(arguments.steps):
        images, disparity = pictures(arguments.batch, generator)
        view, patches = teacher(disparity, generator)
        loss = loss_of(images, view, patches)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    tenth = max(1, len(losses) // 10)
    print(f"loss: {sum(losses[:tenth]) / tenth:.3f} at first, {sum(losses[-tenth:]) / tenth:.3f} at last")


if __name__ == "__main__":
    main()
