"""A whole run: its stages in order, then the evaluation and the report."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from dadkit.config import dump
from dadkit.config.components import build
from dadkit.config.schema import ComponentConfig, RunConfig, StageConfig
from dadkit.errors import DadkitError
from dadkit.evaluation import Evaluation, EvaluationPlan
from dadkit.files import write_text
from dadkit.ops import preferred
from dadkit.ops.selfcheck import ensure
from dadkit.plugin import Component
from dadkit.report import write_report
from dadkit.results import claim
from dadkit.threads import in_force, shared_cores, yielding
from dadkit.training.assess import deciding_metric, evaluate_at_end, validator
from dadkit.training.build import build_stage
from dadkit.training.checkpoint import file_sha256
from dadkit.training.distributed import Ranks, join, restart_hint
from dadkit.training.folder import RunFolder, StageFolder, lock, make_card, write_result
from dadkit.training.hooks import Hook
from dadkit.training.loop import Trainer
from dadkit.training.progress import duration
from dadkit.training.record import (
    StageRecord,
    begin,
    check_begun,
    component_versions,
    describe_run,
    fingerprint,
    finish,
    note_weights,
    read_done,
    run_components,
)
from dadkit.training.soundness import StageError, advice, check_space
from dadkit.training.stage import Outcome, Stage
from dadkit.weights.sources import noted_files

__all__ = ["RunResult", "train"]

EXAMPLES = 5
WRITTEN = (
    "stages",
    "tensorboard",
    "config.yaml",
    "run.json",
    "metrics.jsonl",
    "evaluation.json",
    "evaluation.csv",
    "evaluation.jpg",
    "evaluations",
    "report.html",
)
"""What a run leaves in its folder."""


@dataclass(frozen=True)
class RunResult:
    """What became of a run.

    Attributes:
        name: of the run.
        folder: where everything lies.
        stages: how each stage ended.
        evaluations: the rows of the evaluation's table; empty if the run has none.
        seconds: what this call took.
        further: the rows of the further sets (``evaluation.also``), by name.
    """

    name: str
    folder: Path
    stages: list[StageRecord]
    evaluations: list[Evaluation] = field(default_factory=list)
    seconds: float = 0.0
    further: dict[str, list[Evaluation]] = field(default_factory=dict)


def train(run: RunConfig, *, fresh: bool = False, console: Console | None = None, hooks: Sequence[Hook] = ()) -> RunResult:
    """Train all stages of a run into ``run.output/run.name``, evaluate, write the report.

    Called again after it was killed or stopped, it goes on from the last checkpoint; what is finished is not trained again.
    Processes started by ``torchrun`` train one run together (see :mod:`dadkit.training.distributed`); rank 0 alone evaluates.

    Args:
        run: the resolved configuration, from ``dadkit.config.load_run``.
        fresh: throw away what an earlier call left in the folder.
        console: where progress is shown; None = the standard output.
        hooks: called at fixed points of every stage, besides those that the configuration names; see
            :class:`dadkit.training.Hook`.

    Raises:
        ConfigChangedError: the folder was begun with another configuration.
        RunLockedError: another process trains into the folder.
        StoppedError: SIGINT or SIGTERM came; the state is saved.
        DadkitError: whatever else the user can mend; the message says what.
    """
    begun = time.monotonic()
    folder = RunFolder(Path(run.output).expanduser() / run.name)
    with join() as ranks:
        console = (console or Console()) if ranks.main else Console(quiet=True)
        device = ranks.device(run.device)
        plan = _check(run, ranks)
        named, loggers = (_build_hooks(run.hooks, "hooks"), _build_hooks(run.log, "log"))
        with lock(folder.path) if ranks.main else nullcontext(), _determinism(run.deterministic):
            written = ranks.from_main(lambda: _begin(run, folder, fresh=fresh))
            _check_shared(folder, written, ranks)
            if device.type == "cpu":
                _say_threads(console)
            hint = restart_hint() if ranks.several else None
            if hint is not None:
                console.print(f"warning: {hint}", style="yellow", highlight=False, soft_wrap=True)
            checked = ranks.from_main(lambda: ensure(device))
            if checked is not None:
                console.print(f"fused operators on this GPU: {checked.message}", highlight=False, soft_wrap=True)
            runner = _Runner(run, plan, folder, device, console, ranks, hooks=[*named, *hooks], loggers=loggers)
            with yielding() if device.type == "cpu" else nullcontext():
                records = runner.stages()
            found: dict[str, list[Evaluation]] = {}
            ranks.from_main(lambda: found.update(_conclude(runner)))
    evaluations = found.pop("", [])
    return RunResult(run.name, folder.path, records, evaluations, time.monotonic() - begun, found)


def _say_threads(console: Console) -> None:
    threads = torch.get_num_threads()
    console.print(in_force(threads), highlight=False, soft_wrap=True)
    if shared := shared_cores(threads):
        console.print(f"warning: {shared}", style="yellow", highlight=False, soft_wrap=True)


def _begin(run: RunConfig, folder: RunFolder, *, fresh: bool) -> str:
    """Prepare the folder; answers with the hash of the configuration that was written."""
    claim(folder.path, WRITTEN, known=folder.metadata.is_file() and "components" in folder.metadata.read_text(encoding="utf-8"))
    if fresh:
        _clear(folder)
    check_begun(run, folder)
    write_text(folder.config, dump(run))
    return file_sha256(folder.config)


def _conclude(runner: _Runner) -> dict[str, list[Evaluation]]:
    """Evaluate and report."""
    run, folder, console = runner.run, runner.folder, runner.console
    evaluations = evaluate_at_end(run, runner.plan, folder.path, runner.results, runner.device, console)
    if run.report:
        console.print(f"report: {write_report(folder.path)}", highlight=False, soft_wrap=True)
    return evaluations


class _Runner:
    """Trains the stages that are not finished yet, and keeps ``run.json`` up to date."""

    def __init__(
        self,
        run: RunConfig,
        plan: EvaluationPlan | None,
        folder: RunFolder,
        device: torch.device,
        console: Console,
        ranks: Ranks,
        *,
        hooks: Sequence[Hook],
        loggers: Sequence[Hook],
    ) -> None:
        self.plan, self.hooks, self.loggers = plan, hooks, loggers
        self.run, self.folder, self.device, self.console, self.ranks = run, folder, device, console, ranks
        self.components: list[Component] = run_components(run)
        self.results: dict[str, Path] = {}
        self.records: list[StageRecord] = []

    def stages(self) -> list[StageRecord]:
        """Returns all stages in order."""
        self._describe()
        for index, config in enumerate(self.run.stages):
            with preferred(config.backend):
                self.records.append(self._stage(index, config))
            self.results[config.name] = self.folder.stage(config.name).model
            self._describe()
        return self.records

    def _stage(self, index: int, config: StageConfig) -> StageRecord:
        files = self.folder.stage(config.name)
        record = self.ranks.from_main(lambda: self._look(files, config))
        if record is not None:
            self._say(f"{config.name}: finished before, in {duration(record.seconds)}")
            return record
        with noted_files() as used:
            stage = build_stage(self.run, config, self.results, self.device, self.ranks)
        digest = self.ranks.from_main(lambda: note_weights(files, config, used, self.results))
        if self.plan is not None and (config.validate_every or config is self.run.stages[-1]):
            further = self.plan.also.values() if config is self.run.stages[-1] else ()
            for protocol in (self.plan.protocol, *(one.protocol for one in further)):
                what = f"the student of stage '{config.name}', to be evaluated under '{protocol.name}',"
                check_space(stage.student.spec.space, protocol.space, what)
        for name in sorted(used):
            self._say(f"{config.name}: weights from {name}")
        for hint in advice(stage.student.spec):
            self._say(f"{config.name}: {hint}", style="yellow")
        for text in stage.conversions:
            self._say(f"{config.name}: {text}")
        for doubt in stage.unsound:
            self._say(f"{config.name}: unsound, and allowed: {doubt}", style="yellow")
        validate = validator(self.plan) if self.plan and config.validate_every else None
        outcome = Trainer(stage, self.folder, self.console, validate, self.ranks, self.hooks, self.loggers).train()
        return self.ranks.from_main(lambda: self._finish(index, digest, sorted(used), stage, outcome))

    def _look(self, files: StageFolder, config: StageConfig) -> StageRecord | None:
        """Returns the stage's record if it is finished with this configuration."""
        return read_done(files, begin(files, fingerprint(self.run, config, self.results)))

    def _finish(self, index: int, digest: str, used: Sequence[str], stage: Stage, outcome: Outcome) -> StageRecord:
        """Write the stage's result."""
        files = self.folder.stage(stage.name)
        versions = component_versions(self.components)
        card = make_card(self.run, stage, self.results, versions, step=outcome.step, digest=digest)
        write_result(files.model, outcome.weights, card)
        record = _record(index, digest, used, stage, outcome, files.model)
        finish(files, record)
        self._tell(record)
        return record

    def _tell(self, record: StageRecord) -> None:
        text = f"{record.name}: {record.iterations} iterations in {duration(record.seconds)}"
        if record.step != record.iterations:
            text += f", best at {record.step}"
        if record.nonfinite:
            text += f", {record.nonfinite} skipped as not finite"
        self._say(text)
        if record.unreadable:
            self._say(f"{record.name}: {record.unreadable} samples could not be read, among them:", style="yellow")
            for name, reason in record.examples.items():
                self._say(f"  {name}: {reason}", style="yellow")

    def _say(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def _describe(self) -> None:
        if not self.ranks.main:
            return
        found = describe_run(self.run, self.components, self.records, device=self.device, processes=self.ranks.count)
        write_text(self.folder.metadata, json.dumps(found, indent=2) + "\n")


def _record(index: int, digest: str, used: Sequence[str], stage: Stage, outcome: Outcome, model: Path) -> StageRecord:
    unreadable = outcome.unreadable
    return StageRecord(
        name=stage.name,
        index=index,
        hash=digest,
        sha256=file_sha256(model),
        iterations=stage.iterations,
        step=outcome.step,
        seconds=outcome.seconds,
        parameters=sum(parameter.numel() for parameter in stage.student.parameters()),
        nonfinite=outcome.nonfinite,
        unreadable=len(unreadable),
        examples=dict(list(unreadable.items())[:EXAMPLES]),
        licenses=tuple(stage.licenses),
        conversions=tuple(stage.conversions),
        unsound=tuple(stage.unsound),
        weights=tuple(used),
    )


def _check(run: RunConfig, ranks: Ranks) -> EvaluationPlan | None:
    """Refuse what would only be noticed after hours of training otherwise; returns what is to be evaluated."""
    for stage in run.stages:
        if stage.batch_size < ranks.count:
            raise StageError(
                f"stage '{stage.name}': batch_size {stage.batch_size} leaves some of the {ranks.count} processes without an "
                "image; it counts the images of all processes together"
            )
        if stage.shard_teachers and not ranks.several:
            raise StageError(
                f"stage '{stage.name}': shard_teachers spreads the teachers over several processes, and there is one; start "
                "them with torchrun --nproc-per-node=…, or leave it out (shard_teachers=false)"
            )
        if stage.validate_every is not None and run.evaluation is None:
            raise StageError(f"stage '{stage.name}' has validate_every, but the run has no evaluation: say what to measure on")
    if run.evaluation is None:
        return None
    plan = EvaluationPlan.resolve(run.evaluation)
    if any(stage.validate_every for stage in run.stages) and deciding_metric(plan.protocol) is None:
        raise StageError(
            f"validate_every chooses the best checkpoint by abs_rel or ssi_mae, and protocol '{plan.protocol.name}' measures "
            "neither; take another protocol, or leave validate_every out"
        )
    for one in (plan, *plan.also.values()):
        one.open()
    return plan


def _build_hooks(configs: Sequence[ComponentConfig], key: str) -> list[Hook]:
    """Build what ``hooks`` or ``log`` names."""
    built = [build("hook", config.name, config.options) for config in configs]
    for config, hook in zip(configs, built, strict=True):
        if not isinstance(hook, Hook):
            raise DadkitError(f"{key}: '{config.name}' built a {type(hook).__qualname__}, not a dadkit.training.Hook")
    return built


def _check_shared(folder: RunFolder, written: str, ranks: Ranks) -> None:
    """All ranks read results and checkpoints that rank 0 writes."""
    if not (folder.config.is_file() and file_sha256(folder.config) == written):
        raise DadkitError(
            f"process {ranks.rank} does not see the files that process 0 writes into {folder.path}; with several machines, "
            "output must be a folder that all of them share"
        )


def _clear(folder: RunFolder) -> None:
    """Remove what a run writes, and nothing else that may lie in the folder."""
    try:
        for name in WRITTEN:
            path = folder.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise DadkitError(f"cannot clear {folder.path}: {error}; remove it by hand, or give another name (name=…)") from error


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    if wanted:  # cuBLAS reads it when it is first used, and is deterministic only with it
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
