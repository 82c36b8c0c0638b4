"""The poster's figure: what stage one does for completion. A student, the student adapted without labels, its teacher.

    python benchmarks/real/completion_stages.py FOLDER figure.jpg [--student starter/tiny] [--teacher starter/small]

FOLDER holds the street sets of `sets.yaml` (kitti, ddad_dgp). The student is adapted to their pictures by the teacher's maps,
without depth; 16 of the LiDAR's 64 lines are given to `align`, the others are measured. Prints AbsRel as means over sets, and
draws one picture with the three maps and the three completions.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from measure import find_sets
from PIL import Image
from torch.nn import functional as F

import dadkit
from dadkit import pictures
from dadkit.config import load_run
from dadkit.data.patterns import lidar_lines
from dadkit.interfaces import Hints
from dadkit.loading import load_completer
from dadkit.spaces import Space
from dadkit.training import train

STREETS = ("kitti", "ddad_dgp")
LINES = 16
CONFIG = """
name: adapted
student: {{name: {student}}}
teachers: [{{name: {teacher}}}]
data: {{root: {list}, workers: 0}}
contexts: {{name: shared, options: {{view_size: 192, crop_min: 300}}}}
losses: {{local_global: {{weight: 0}}}}
optim: {{lr: 2.0e-4, warmup: 20, schedule: cosine}}
batch_size: 4
iterations: {iterations}
report: false
"""


def adapted(folder: Path, student: str, teacher: str, iterations: int) -> dadkit.interfaces.DepthModel:
    """The student after `dadkit train` on the pictures alone."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        files = sorted(file for name in STREETS for file in (folder / name).glob("*.jpg"))
        (root / "list.txt").write_text("\n".join(map(str, files)))
        text = CONFIG.format(student=student, teacher=teacher, list=root / "list.txt", iterations=iterations)
        (root / "adapted.yaml").write_text(text)
        return dadkit.load_model(train(load_run(root / "adapted.yaml", [f"output={place}"])).folder)


def main() -> None:
    """Adapt, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--student", default="starter/tiny")
    parser.add_argument("--teacher", default="starter/small")
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--picture", type=int, default=0, help="of ddad_dgp, which is drawn")
    args = parser.parse_args()
    models = {
        "student": dadkit.load_model(args.student),
        "adapted": adapted(args.folder.resolve(), args.student, args.teacher, args.iterations),
        "teacher": dadkit.load_model(args.teacher),
    }
    ways = {name: load_completer("align", local=local) for name, local in (("global fit", "none"), ("align", "fill"))}
    errors: dict[tuple[str, str], dict[str, list[float]]] = {}
    drawn: list[list[object]] = [[], []]
    sets = find_sets(args.folder, STREETS)
    for key, part in sets.items():
        for index in range(len(part)):
            sample = part[index]
            sweep = Hints(sample.depth[None], sample.valid[None])
            hints = lidar_lines(sweep, sample.intrinsics, LINES)
            measured = (sweep.valid & ~hints.valid)[0, 0]
            limits = pictures.percentile_limits(pictures.nearness(sample.depth, Space.METRIC), sample.valid)
            show = key == "ddad_dgp" and index == args.picture
            if show:
                drawn[0].append(pictures.to_uint8(sample.image))
                near = F.max_pool2d(torch.where(hints.valid, 1 / hints.depth.clamp(min=1e-3), 0.0), 7, 1, 3)[0]
                dots = pictures.colorize(1 / near.clamp(min=1e-3), space=Space.METRIC, valid=near > 0, limits=limits)
                drawn[1].append(dots)
            for name, model in models.items():
                relative = model.predict(sample.image)
                if show:
                    drawn[0].append(pictures.colorize(relative.depth, space=relative.space))
                for way, completer in ways.items():
                    with torch.no_grad():
                        depth = completer.complete(sample.image[None].float() / 255, hints, relative).depth[0]
                    error = float(((depth[0] - sample.depth[0]).abs() / sample.depth[0])[measured].mean())
                    errors.setdefault((name, way), {}).setdefault(key, []).append(error)
                    if show and way == "align":
                        drawn[1].append(pictures.colorize(depth[None], space=Space.METRIC, limits=limits))
    print("| stage one | global fit | align |\n|---|---|---|")
    for name in models:
        means = [sum(sum(v) / len(v) for v in errors[name, way].values()) / len(sets) for way in ways]
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in means)} |")
    grid = Image.fromarray(pictures.grid(drawn, titles=["picture; points given", "student", "student, adapted", "teacher"]))
    grid.thumbnail((2000, 2000))
    grid.save(args.figure, quality=88)


if __name__ == "__main__":
    main()
