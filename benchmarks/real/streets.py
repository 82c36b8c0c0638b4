"""Street pictures labelled with metres by a metric teacher, with their own camera and with a wrong one.

    python benchmarks/real/streets.py RGBD [MODEL [WEIGHTS]]

RGBD holds `kitti` and `ddad_dgp` with their `intrinsics.json`. The model, `da3/metric-large` with random weights unless another
is named, labels each picture with its camera and with 60 degrees assumed. Metres are raw numbers times focal length / canonical
one, in pixels of the network's input, so a wrong camera changes them by the ratio of the focal lengths, at every pixel. That
holds for any weights; random ones show it.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
import yaml

import dadkit
from dadkit.data import DepthPairs
from dadkit.interfaces import camera_from_fov, focal_length, resize_camera

HERE = Path(__file__).parent


def main() -> None:
    rgbd = Path(sys.argv[1])
    name = sys.argv[2] if len(sys.argv) > 2 else "da3/metric-large"
    weights = sys.argv[3] if len(sys.argv) > 3 else "none"
    torch.manual_seed(0)
    metric = dadkit.load_teacher(name, weights=weights)
    canonical = metric.spec.canonical_focal
    assert canonical is not None
    about = yaml.safe_load((HERE / "sets.yaml").read_text())
    print("| picture | size | network's input | degrees | f/300 | 60 degrees: f/300 | its metres / right ones |")
    print("|" + "---|" * 7)
    worst = 0.0
    for folder in ("kitti", "ddad_dgp"):
        pairs = DepthPairs(
            rgbd / folder, images=".", depths=".", depth_suffix="_depth", space="metric", intrinsics="intrinsics.json",
            **about[folder]["pairs"],
        )  # fmt: skip
        for index in range(len(pairs)):
            sample = pairs[index]
            assert sample.intrinsics is not None
            image, size = sample.image.float() / 255, tuple(sample.image.shape[-2:])
            policy = metric.spec.native
            seen = policy.target(*size)
            own, assumed = sample.intrinsics, camera_from_fov(60, size)
            right, wrong = (metric.predict(image, cameras=camera).depth for camera in (own, assumed))
            factors = [float(focal_length(resize_camera(camera[None], size, seen))) / canonical for camera in (own, assumed)]
            ratio = wrong / right
            expected = factors[1] / factors[0]
            worst = max(worst, float((ratio / expected - 1).abs().max()))
            degrees = 2 * math.degrees(math.atan(size[1] / 2 / float(own[0, 0])))
            print(
                f"| {folder}/{sample.key} | {size[0]} x {size[1]} | {seen[0]} x {seen[1]} | {degrees:.1f} | {factors[0]:.3f} | "
                f"{factors[1]:.3f} | {float(ratio.median()):.3f} |"
            )
    print(f"largest relative difference from the expected ratio, over all pixels: {worst:.1e}")


if __name__ == "__main__":
    main()
