"""What the processes of test_distributed.py run: one scenario after the other, so that torch is imported once.

Usage: ranks.py FOLDER. Each process finds its rank in the environment and writes FOLDER/rank-R.pt.
"""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.distributed.tensor import DTensor
from typer.testing import CliRunner

from dadkit.cli import app
from dadkit.config import parse_run
from dadkit.contexts import LocalGlobal
from dadkit.data import Member, build_streams
from dadkit.data.perturbations import CutMix
from dadkit.data.sample import Sample
from dadkit.errors import DadkitError, DataError
from dadkit.files import write_text
from dadkit.interfaces import Teacher
from dadkit.loading import load_teacher
from dadkit.normalizers import Global, Hybrid
from dadkit.spaces import Space
from dadkit.training.batches import StageData
from dadkit.training.compose import Maps, combine
from dadkit.training.distributed import ALONE, Ranks, join
from dadkit.training.folder import RunFolder
from dadkit.training.labels import Labeller
from dadkit.training.loop import Trainer
from dadkit.training.run import train as train_run
from dadkit.training.shard import Rounds
from dadkit.training.soundness import StageTerm
from dadkit.training.stage import Stage
from dadkit.training.terms import FeatureTerm

_spec = importlib.util.spec_from_file_location("training_toys", Path(__file__).with_name("conftest.py"))
assert _spec is not None
assert _spec.loader is not None
toys = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toys)

ITERATIONS = 6

RUN = """
name: small
batch_size: 8
log_every: 2
sample_every: 100
checkpoint_every: 3
channels_last: false
data: {workers: 1, unlabelled: [{name: procedural, options: {count: 12, size: [40, 48]}}]}
contexts: {name: shared, options: {view_size: 32, crop_min: 36}}
teachers: [{name: dav2/tiny, options: {weights: none}}]
student: {name: topformer/tiny, options: {native_size: 32}}
losses: {anchor: {warmup_maps: 4}, local_global: {weight: 0}}
optim: {lr: 1.0e-3}
iterations: 10
report: false
evaluation: {data: {name: procedural, options: {count: 2, size: [40, 48], split: test}}}
"""


SPREAD = [
    "teachers=[{name: dav2/tiny, options: {weights: none}, probability: 7},"
    " {name: dav2/tiny, options: {weights: none}, probability: 3}]",
    "selection=sample",
    "contexts={name: local-global, options: {view_size: 32, crop_min: 36, patch_size: 28, overlap: 4, n: 2}}",
    "perturb={}",
    "losses.local_global.weight=0.5",
    "losses.feature={weight: 0.5, reference: {name: dinov2/tiny, options: {weights: none}}}",
    "batch_size=6",
    "optim.accumulate=2",
    "iterations=4",
    "sample_every=2",
    "evaluation=null",
]
"""Draws per image, images mixed by CutMix, whose patches nobody asks about, two micro-batches, pictures that rank 0 draws."""


class Student64(toys.ToyStudent):
    """Computes in float64, so that another order of additions stays at 1e-16 and is not blown up by Adam."""

    def __init__(self) -> None:
        super().__init__(norm=True, dropout=0.2)
        self.double()

    def estimate(self, x):
        depth, features = super().estimate(x.double())
        return depth, {name: tap.float() for name, tap in features.items()}


class Pictures:
    """Smooth random pictures with depth; ``before`` is called with each index that is read."""

    def __init__(self, count: int, before: Callable[[int], None] | None = None) -> None:
        self.count, self.before = count, before

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if self.before is not None:
            self.before(index)
        generator = torch.Generator().manual_seed(index)
        small = torch.rand(1, 4, 6, 7, generator=generator)
        image = torch.nn.functional.interpolate(small, (24, 28), mode="bicubic")[0].clamp(0, 1)
        depth = 1 + image[3:]
        return Sample((image[:3] * 255).to(torch.uint8), str(index), depth, None, Space.METRIC)


def make_stage(
    ranks: Ranks = ALONE,
    *,
    accumulate: int = 2,
    unlabelled: int = 8,
    before: Callable[[int], None] | None = None,
    **config: Any,
) -> Stage:
    """A stage in which all that might differ between ranks takes part: both kinds of data, CutMix, two teachers drawn per
    sample, features, batch statistics, dropout, an average of weights.
    """

    data = build_streams(
        LocalGlobal(view_size=16, crop_min=18, patch_size=16, overlap=4, n=2),
        stage="main",
        seed=3,
        batch_size=unlabelled + 4,
        unlabelled=[Member("pictures", Pictures(20, before))],
        labelled=[Member("depth", Pictures(7))],
        labelled_fraction=4 / (unlabelled + 4),
        space=Space.DISPARITY,
        cutmix=CutMix(),
        share=ranks.share,
    )

    terms = combine(
        shared=Maps(1.0, Hybrid()),
        local_global=Maps(0.5, Hybrid()),
        labelled=Maps(1.0, Global()),
        gradient=0.5,
        anchor=0.1,
        feature=StageTerm("feature", 0.1, FeatureTerm()),
    )
    return toys.make_stage(
        terms,
        student=Student64(),
        teachers=(Labeller("a", toys.ToyTeacher(), 7.0), Labeller("b", toys.ToyTeacher(scale=0.5, shift=2.0), 3.0)),
        data=StageData(data),
        iterations=ITERATIONS,
        optim={"accumulate": accumulate, "lr": 1e-2, "clip_norm": 0.5},
        batch_size=4 * accumulate,
        selection="sample",
        ema=0.9,
        sample_every=ITERATIONS,
        **config,
    )


def train(stage: Stage, folder: Path, ranks: Ranks = ALONE) -> Trainer:
    """Train; the trainer has the final state of every rank."""
    trainer = Trainer(stage, RunFolder(folder), Console(file=io.StringIO()), None, ranks)
    trainer.train()
    return trainer


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Weights and buffers of the student."""
    return {name: tensor.clone() for name, tensor in trainer.student.state_dict().items()}


def same_weights(folder: Path, ranks: Ranks) -> dict[str, Any]:
    trainer = train(make_stage(ranks), folder, ranks)
    return {"state": state(trainer), "scales": trainer.step.scales.state_dict(), "ema": dict(trainer._model.state_dict())}


def stopped(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """SIGTERM reaches rank 1 only, in the third iteration; then the same again to the end."""
    reads: list[int] = []

    def before(index: int) -> None:
        reads.append(index)
        if len(reads) == 2 * 4 + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    message = ""
    try:
        train(make_stage(ranks, before=before if ranks.rank == 1 else None), folder, ranks)
    except DadkitError as error:
        message = str(error)
    saved = sorted(path.name for path in (folder / "stages/main/checkpoints").glob("step-*"))
    ranks.gather(None)
    return {"message": message, "saved": saved, "state": state(train(make_stage(ranks), folder, ranks))}


def poisoned(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """A loss that is not finite, on rank 1 only, in one iteration."""
    stage = make_stage(ranks)
    plain = stage.step.forward

    def forward(*args: Any, **options: Any):
        result = plain(*args, **options)
        if ranks.rank == 1 and "0" in args[1].keys:
            result.total = result.total * torch.nan
        return result

    stage.step.forward = forward
    trainer = train(stage, folder, ranks)
    return {"state": state(trainer), "count": trainer.guard.count}


def few_images(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """One unlabelled image: rank 0 has none of this kind."""
    return {"state": state(train(make_stage(ranks, unlabelled=1, accumulate=1), folder, ranks))}


def whole_run(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """A run of the command line, with the evaluation that rank 0 makes."""
    result = train_run(parse_run(RUN, [f"output={folder}"]), console=Console(file=io.StringIO()))
    return {"stages": [stage.plain() for stage in result.stages], "evaluated": len(result.evaluations)}


def swept(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """`dadkit sweep` over two seeds, as each process calls it."""
    file = folder / "toy.yaml"
    ranks.from_main(lambda: write_text(file, RUN))
    short = [f"output={folder}", "iterations=2", "data.workers=0"]
    result = CliRunner().invoke(app, ["sweep", str(file), *short, "--seeds", "0,1"], env={"COLUMNS": "200"})
    return {"code": result.exit_code, "output": result.output}


def spread(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """A teacher whose weights are spread, beside the same one whole. First rank 1 asks alone."""

    def build() -> Teacher:
        torch.manual_seed(5)
        return load_teacher("dav2/tiny", weights="none")

    whole, rounds = build(), Rounds(ranks, torch.device("cpu"))
    parted = rounds.load(build)
    own = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in parted.parameters())
    torch.manual_seed(ranks.rank)
    images = torch.rand(1 + ranks.rank, 3, 28, 42)
    equal = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=False):
        if ranks.rank == 1:
            equal.append(torch.equal(parted(images).depth, whole(images).depth))
        rounds.close()
        equal.append(torch.equal(parted(images).depth, whole(images).depth))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        equal.append(torch.equal(parted(images).depth, whole(images).depth))
    rounds.close()
    return {"equal": equal, "own": own, "all": sum(p.numel() for p in whole.parameters())}


def spread_run(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """A run whose processes ask the teachers at different times, with these spread and whole."""
    hashes = []
    for where in ("spread", "whole"):
        keys = [f"output={folder / where}", f"shard_teachers={str(where == 'spread').lower()}", *SPREAD]
        hashes.append([stage.sha256 for stage in train_run(parse_run(RUN, keys), console=Console(file=io.StringIO())).stages])
    return {"hashes": hashes}


def failed(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """Rank 1 cannot go on. Last, since the processes lose each other."""

    def before(index: int) -> None:
        raise DataError("rank 1 finds no data")

    try:
        train(make_stage(ranks, before=before if ranks.rank == 1 else None), folder, ranks)
    except DadkitError as error:
        return {"error": str(error), "kind": type(error).__name__, "reports": ranks.reports(error)}
    return {}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with join() as ranks:
        assert ranks.several
        results: dict[str, Any] = {}
        for scenario in (same_weights, stopped, poisoned, few_images, spread, spread_run, whole_run, swept, failed):
            results[scenario.__name__] = scenario(folder / scenario.__name__, ranks)
        torch.save(results, folder / f"rank-{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
