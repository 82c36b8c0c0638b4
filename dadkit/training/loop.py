"""The training loop of one stage: data in, steps, checkpoints and logs out.

Everything random is derived from (seed, stage, step), the learning rates and the data's order from the step alone; so a run
that was killed and goes on from its last checkpoint ends with the same weights, bit for bit, as one that was not. The device is
waited for at log intervals only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, cast

import torch
from rich.console import Console
from torch import Tensor

from dadkit.interfaces import DepthModel, Student
from dadkit.plugin import get_registry, warn_of_other_versions
from dadkit.training.batches import Iteration, explained_batch_norm, merged, micro_batches, without_account
from dadkit.training.calibration import calibrate_together
from dadkit.training.checkpoint import Checkpoint, Checkpoints, contiguous_state
from dadkit.training.distributed import ALONE, Ranks
from dadkit.training.folder import RunFolder
from dadkit.training.gradients import Exchange, NonFiniteGuard
from dadkit.training.hooks import Hook
from dadkit.training.labels import Drawn, draw, drawn_names
from dadkit.training.loggers import RunFiles
from dadkit.training.metrics import Window
from dadkit.training.optim import build_ema, build_optimizer, clip_gradients, rate_factor, set_rates, update_ema
from dadkit.training.progress import StageProgress
from dadkit.training.samples import draw_samples
from dadkit.training.scale import SourceScales
from dadkit.training.seeds import seed_everything
from dadkit.training.signals import StoppedError, StopSignal
from dadkit.training.stage import Outcome, Stage

__all__ = ["Trainer"]


class Trainer:
    """Trains one stage; goes on from the newest checkpoint in the stage's folder, if there is one.

    Args:
        stage: the built stage.
        folder: the run's folder.
        console: where progress is shown.
        validate: measures a model by a number of which less is better; called if the stage has ``validate_every``.
        ranks: the processes that train together; ``stage.data`` reads this one's share.
        hooks: called at fixed points; see ``hooks.py``.
        loggers: hooks that keep nothing in checkpoints, besides the run's own files.
    """

    def __init__(
        self,
        stage: Stage,
        folder: RunFolder,
        console: Console,
        validate: Callable[[DepthModel], float] | None = None,
        ranks: Ranks = ALONE,
        hooks: Sequence[Hook] = (),
        loggers: Sequence[Hook] = (),
    ) -> None:
        self.hooks, self._recorded = tuple(hooks), dict[str, Tensor]()
        self._all_hooks = (RunFiles(), *loggers, *hooks)
        self.stage, self.config, self.validate, self.ranks = stage, stage.config, validate, ranks
        self.student, self.step = stage.student, stage.step
        self.forward = torch.compile(self.student) if self.config.compile else self.student
        self.optimizer = build_optimizer(self.config.optim, self.student, step=self.step)
        self.ema = build_ema(self.student, self.config.ema)
        self.folder, self.files = folder, folder.stage(stage.name)
        self.checkpoints = Checkpoints(self.files.checkpoints, keep_last=self.config.keep_last)
        saved, damaged = self._newest()
        self.start = saved.step if saved else 0
        limit = self.config.max_nonfinite
        trained = [self.student, self.step]
        self.guard = NonFiniteGuard(trained, self.files.nonfinite, limit=limit, start=self.start, ranks=ranks)
        self.begun, self.seconds_before = time.monotonic(), 0.0
        self.window, self.rates = Window(), dict[str, float]()
        if saved:
            self._restore(saved)
        params = [param for module in trained for param in module.parameters()]
        buffers = [buffer for module in trained for buffer in module.buffers()]
        ranks.broadcast([*params, *buffers])  # they are the same already, unless machines differ
        self.exchange = Exchange(ranks, [param for param in params if param.requires_grad])
        shown = console if ranks.main else Console(quiet=True)
        self.log = StageProgress(shown, stage.name, iterations=stage.iterations, start=self.start)
        for message in damaged:
            self.log.warn(message)

    def train(self) -> Outcome:
        """Train to the end.

        Raises:
            StoppedError: SIGINT or SIGTERM came; a checkpoint was saved.
            NonFiniteError: too many iterations had to be skipped.
            CheckpointError: a checkpoint could not be written.
        """
        outcome: Outcome | None = None
        try:
            for hook in self._all_hooks:
                hook.on_stage_start(self)
            outcome = self._train()
        finally:
            for hook in self._all_hooks:
                hook.on_stage_end(self, outcome)
        return outcome

    def record(self, values: Mapping[str, Tensor]) -> None:
        """Log scalars of this iteration, from a hook: their means over iterations stand in the next log line."""
        self._recorded.update({name: value.detach() for name, value in values.items()})

    def _train(self) -> Outcome:
        stage = self.stage
        with StopSignal() as stop, closing(stage.data), self.log:
            batches = stage.data.iterations(self.start)
            if self.start:
                self.log.say(f"goes on from the checkpoint of iteration {self.start}")
                if self._due(self.start, self.config.validate_every):  # it may have been killed before it was measured
                    self._validate(self.start)
            elif stage.needs_scales:
                self.step.scales, batches = calibrate_together(stage, batches, self.ranks)
            self.window = Window()  # measuring the scales is not training
            for index in range(self.start, stage.iterations):
                with self.window.waiting():
                    data = next(batches)
                self.iterate(index, data)
                self._after(index + 1)
                if self.ranks.any(stop.name is not None):
                    self._save(index + 1)
                    name = next(name for name in self.ranks.gather(stop.name) if name is not None)
                    raise StoppedError(
                        f"{name} in iteration {index + 1} of stage '{stage.name}'; its state is saved, "
                        "and the same command goes on from there"
                    )
        return self._outcome()

    def iterate(self, index: int, data: Iteration) -> None:
        """One optimiser step: iteration ``index`` on ``data``, in as many micro-batches as are accumulated."""
        stage, key = self.stage, (self.stage.seed, self.stage.name)
        self.rates = set_rates(self.optimizer, rate_factor(self.config.optim, index, stage.iterations))
        teachers = self.step.teachers if data.counts[0] else ()
        drawn = draw(teachers, self.config.selection, data.counts[0], *key, "teacher", index) if teachers else 0
        self.student.train()
        self.guard.before()
        values = self._backward(index, data, drawn)
        total = values.get("loss/total", torch.zeros((), device=stage.device))  # a rank may have no image
        norm, finite = clip_gradients(self.optimizer, self.exchange.finish(total, self.guard), self.config.optim.clip_norm)
        if self.ranks.main:
            values["grad_norm"] = norm
        for hook in self._all_hooks:
            hook.on_step(self, index)
        if self.ranks.main:
            values |= self._recorded
        self._recorded.clear()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        names = drawn_names(teachers, drawn) if teachers else []
        self.guard.after(finite, index + 1, ", ".join(names) or None, data.keys)
        if self.ema is not None and self.config.ema is not None:
            update_ema(self.ema, self.student, self.config.ema)
        self.window.add(values, finite, images=sum(data.counts), teachers=names)

    def _backward(self, index: int, data: Iteration, drawn: Drawn) -> dict[str, Tensor]:
        """Gradients of this process's share of an iteration, in as many micro-batches as are accumulated."""
        stage, values = self.stage, dict[str, Tensor]()
        parts = list(micro_batches(data, self.config.optim.accumulate))
        before = self.ranks.rank * self.config.optim.accumulate
        for number, part in enumerate(parts):
            # What dropout and drop-path draw from.
            seed_everything(stage.seed, stage.name, "step", index, before + number)
            part = part.to(stage.device)
            with explained_batch_norm(part, self.config, self.ranks.count):
                result = self.step(
                    self.forward,
                    part.unlabelled,
                    part.labelled,
                    teacher=drawn[part.first : part.first + part.here[0]] if isinstance(drawn, tuple) else drawn,
                    images=data.counts,
                    with_stats=self._due(index + 1, self.config.log_every),
                )
            if number == len(parts) - 1:
                stage.finish_asking()
                self.exchange.expect()
            total = result.total
            for hook in self._all_hooks:
                added = hook.on_loss(self, part, result)
                total = total if added is None else total + added
            total.backward()
            for name, value in result.named().items():
                values[name] = values[name] + value if name in values else value
        if not parts:
            stage.finish_asking()
        return values

    def _after(self, done: int) -> None:
        """Log, draw, save, validate, where that is due once ``done`` iterations are done."""
        self.log.advance(done)
        if self._due(done, self.config.log_every):
            self._write(done)
        if self._due(done, self.config.sample_every):
            self._draw(done)
        validated = self.validate is not None and self._due(done, self.config.validate_every)
        if validated or self._due(done, self.config.checkpoint_every):
            self._save(done)
        if validated:
            self._validate(done)

    def _draw(self, done: int) -> None:
        """The sample grid, by rank 0."""
        stage = self.stage
        picture = draw_samples(self.step, self._model, stage.data.preview(), stage.device) if self.ranks.main else None
        stage.finish_asking()
        if picture is not None:
            for hook in self._all_hooks:
                hook.on_picture(self, done, picture)

    def _due(self, done: int, every: int | None) -> bool:
        return every is not None and (done % every == 0 or done == self.stage.iterations)

    def _write(self, done: int) -> None:
        self._check_finite()
        values = {
            **self.window.close(self.ranks),
            **{f"lr/{group}": rate for group, rate in self.rates.items()},
            "nonfinite": self.guard.count,
            "unreadable": len(self._unreadable()),
        }
        if not self.ranks.main:
            return
        self._report(done, values)
        losses = {name.removeprefix("loss/"): value for name, value in values.items() if name.startswith("loss/")}
        self.log.log(done, losses, rate=values["images_per_s"], wait=values["data_wait"])
        if values.get("student/constant", 0) > 0:
            self.log.warn(
                f"iteration {done}: the student's map is constant for {values['student/constant']:.0f} images; constant maps "
                "get no gradient from normalised losses. If this stays, lower optim.lr"
            )

    def _report(self, done: int, values: Mapping[str, float]) -> None:
        for hook in self._all_hooks:
            hook.on_log(self, done, values)

    def _check_finite(self) -> None:
        skipped = self.guard.flush()
        if skipped:
            self.log.warn(f"{skipped} iterations skipped, loss or gradient not finite; keys in {self.guard.path}")

    @property
    def _model(self) -> Student:
        """What the stage would result in now: the averaged weights if there are some."""
        return self.student if self.ema is None else cast(Student, self.ema.module)

    def _validate(self, done: int) -> None:
        if self.validate is None or not self.ranks.main:
            return
        value = self.validate(self._model)
        self._report(done, {"validation/abs_rel": value})
        self.log.say(f"iteration {done}: validation AbsRel {value:.4f}")
        best = self.checkpoints.best()
        if math.isfinite(value) and (best is None or value < best[1]):
            self.checkpoints.mark_best(done, value)

    def _save(self, done: int) -> None:
        self._check_finite()
        state = self._state()
        if self.ranks.main:
            self.checkpoints.save(done, self.student.state_dict(), state)

    def _state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds besides the student's weights: tensors and plain data, which load with
        ``weights_only``.

        There is no state of random generators and no scheduler among it: both follow from the step. All ranks call this, for
        the account of what could not be read; the rest is the same on each.
        """
        return {
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "step": self.step.state_dict(),
            "scales": self.step.scales.state_dict(),
            "hooks": [hook.state_dict() for hook in self.hooks],
            "nonfinite": self.guard.count,
            "data": merged(self.ranks.gather(self.stage.data.state())),
            "seconds": self.seconds,
            "versions": get_registry().versions_in_use(),
        }

    def _restore(self, saved: Checkpoint) -> None:
        """Put a checkpoint back, weights included. Warns where plugins of other versions are installed now."""
        found = get_registry().versions_in_use()
        warn_of_other_versions(saved.state.get("versions", {}), found, what=f"the checkpoint of step {saved.step}")
        self.student.load_state_dict(saved.model)
        self.optimizer.load_state_dict(saved.state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(saved.state["ema"])
        learned = saved.state.get("step")
        if learned is None:  # written before terms were modules: the same tensors in the same order, under other names
            learned = dict(zip(self.step.state_dict(), saved.state["adapter"].values(), strict=True))
        self.step.load_state_dict(learned)
        self.step.scales = SourceScales.from_state_dict(saved.state["scales"])
        for hook, state in zip(self.hooks, saved.state.get("hooks", ()), strict=False):
            hook.load_state_dict(state)
        self.guard.count = saved.state["nonfinite"]
        data = saved.state["data"]
        self.stage.data.restore(data if self.ranks.main else without_account(data))
        self.seconds_before = saved.state["seconds"]

    def _newest(self) -> tuple[Checkpoint | None, list[str]]:
        """Returns the newest readable checkpoint, the same on every rank, or None; and what to tell the user about damaged
        ones.
        """
        saved, damaged = self.checkpoints.load_newest() if self.ranks.main else (None, [])
        step = self.ranks.from_main(lambda: None if saved is None else saved.step)
        return (saved if self.ranks.main or step is None else self.checkpoints.load(step)), damaged

    def _unreadable(self) -> dict[str, str]:
        """Name -> reason of what no rank could read."""
        return {name: reason for found in self.ranks.gather(self.stage.data.unreadable) for name, reason in found.items()}

    @property
    def seconds(self) -> float:
        """Time spent on this stage, sessions before this one included."""
        return self.seconds_before + time.monotonic() - self.begun

    def _outcome(self) -> Outcome:
        """Returns the best checkpoint's weights if the stage was validated, else the last ones."""
        unreadable = self._unreadable()
        best = self.checkpoints.best() if self.ranks.main else None
        step = self.stage.iterations if best is None else best[0]
        if step != self.stage.iterations:
            saved = self.checkpoints.load(step)
            self.student.load_state_dict(saved.model)
            if self.ema is not None:
                self.ema.load_state_dict(saved.state["ema"])
        return Outcome(contiguous_state(self._model.state_dict()), step, self.guard.count, self.seconds, unreadable)
