"""The shape of a run: what a YAML file may say, and what it means once it is resolved.

Every field is described here once; ``dadkit config schema`` prints the result and the configuration page is checked against
it. A run is a list of stages. In a file (:class:`RunFile`), a stage's key at the top level is the
default of every stage; in a resolved run (:class:`RunConfig`) every stage is complete and nothing else holds such keys.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from dadkit.config.sections import (
    AnchorLossConfig,
    BlurConfig,
    ColorConfig,
    CompletionConfig,
    ComponentConfig,
    CutMixConfig,
    DataConfig,
    DatasetConfig,
    ExtraLossConfig,
    FeatureLossConfig,
    GradientLossConfig,
    Kind,
    LossConfig,
    MapLossConfig,
    PerturbConfig,
    Positive,
    Probability,
    ReferenceConfig,
    Section,
    StudentConfig,
    TeacherCacheConfig,
    TeacherConfig,
    Weight,
)

__all__ = [
    "AnchorLossConfig",
    "BlurConfig",
    "ColorConfig",
    "CompletionConfig",
    "ComponentConfig",
    "CutMixConfig",
    "DataConfig",
    "DatasetConfig",
    "EvaluationConfig",
    "EvaluationSet",
    "ExtraLossConfig",
    "FeatureLossConfig",
    "GradientLossConfig",
    "Kind",
    "LossConfig",
    "MapLossConfig",
    "OptimConfig",
    "PerturbConfig",
    "ReferenceConfig",
    "RunConfig",
    "RunFields",
    "RunFile",
    "Section",
    "StageConfig",
    "StageFields",
    "StudentConfig",
    "TeacherCacheConfig",
    "TeacherConfig",
]

RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
# No dots and no leading digit, so that `stages.NAME.key=value` always means one thing.
STAGE_NAME = r"^[a-z][a-z0-9_-]*$"
DEVICE = r"^(auto|[a-z]+(:[0-9]+)?)$"
INCOMPLETE_STAGE = "incomplete_stage"


class OptimConfig(Section):
    """How the weights move."""

    name: Literal["adamw", "adam"] = "adamw"
    """Optimiser."""
    lr: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate of the decoder (Distill Any Depth: 5e-5)."""
    encoder_lr: Annotated[float, Field(ge=0)] | None = None
    """Peak learning rate of the encoder; null = ``lr / 10`` (Depth Anything V2); 0 freezes the encoder."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay of matrices and kernels; biases and norms have none."""
    betas: Annotated[tuple[float, float], Field(strict=False)] = (0.9, 0.999)
    """Adam's averaging factors."""
    schedule: Literal["constant", "linear", "cosine", "poly"] = "poly"
    """Decay after the warm-up; ``poly`` is (1 - t)^0.9."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Iterations of linear warm-up."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest gradient norm; null does not clip."""
    accumulate: Positive = 1
    """Micro-batches per iteration; ``batch_size`` is divided by it."""


class StageFields(Section):
    """Every key of a stage; at the top level it is the default of every stage."""

    student: Annotated[StudentConfig | None, Kind("student", ("completer",))] = None
    """The model that this stage trains."""
    completion: CompletionConfig | None = None
    """The stage trains a completer (``student: {name: refine}``) on simulated points; null = it trains a depth model."""
    teachers: Annotated[list[TeacherConfig], Kind("teacher")] = Field(default_factory=list)
    """Models that label; one is drawn per iteration by ``probability``. Empty: train on true depth only."""
    selection: Literal["iteration", "sample", "average"] = "iteration"
    """Whether a teacher is drawn per iteration (Distill Any Depth) or per image; ``average`` of all is for ablations."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Where images come from."""
    teacher_cache: TeacherCacheConfig | None = None
    """Keep the teachers' answers on disk; only for contexts that are not random (``whole``). null = ask every time."""
    shard_teachers: bool = False
    """Under torchrun, each process keeps a part of the teachers' (and the feature reference's) weights: FSDP2."""
    contexts: Annotated[ComponentConfig, Kind("context")] = Field(default_factory=lambda: ComponentConfig(name="local-global"))
    """Where student and teacher look: ``local-global``, ``shared``, ``whole``, or a plugin's sampler."""
    perturb: PerturbConfig | None = None
    """Strong perturbations of the student's views; null = none, ``{}`` = as published."""
    losses: LossConfig = Field(default_factory=LossConfig)
    """The terms of the total."""
    optim: OptimConfig = Field(default_factory=OptimConfig)
    """How the weights move."""
    iterations: Positive | None = None
    """Optimiser steps; give this or ``epochs``."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the larger of the data kinds; give this or ``iterations``."""
    batch_size: Positive = 8
    """Images per optimiser step."""
    flip: Probability = 0.5
    """Probability of mirroring an image, boxes and labels with it."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs both models under autocast; losses are always float32."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which then is the stage's result; null = off."""
    channels_last: bool = True
    """Memory format of the convolutions; usually faster."""
    compile: bool = False
    """torch.compile the student."""
    backend: Literal["auto", "fused", "reference"] = "auto"
    """Which implementation of the losses; ``dadkit doctor`` says what ``auto`` means here."""
    checkpoint_every: Positive = 500
    """Iterations between checkpoints; a killed run goes on from the last one."""
    keep_last: Positive = 2
    """Checkpoints kept, besides the best."""
    log_every: Positive = 20
    """Iterations between log lines."""
    sample_every: Positive = 500
    """Iterations between sample grids."""
    validate_every: Positive | None = None
    """Iterations between evaluations under the run's protocol, which choose the best checkpoint; null = only at the end."""
    max_nonfinite: Positive = 10
    """The run stops after this many iterations with a non-finite loss."""
    allow_unsound: bool = False
    """Permit combinations that the papers show to fail; ablations set it and the report prints it."""


class StageConfig(StageFields):
    """One stage: trains one model."""

    name: str = Field(default="main", pattern=STAGE_NAME)
    """Name of the stage; later stages refer to it (``stage: NAME``), and so do overrides (``stages.NAME.iterations=5``)."""

    @model_validator(mode="after")
    def _complete(self) -> StageConfig:
        # The loader says the same with a better place (checks.py); this guards stages that are built in Python.
        if self.student is None:
            raise PydanticCustomError(INCOMPLETE_STAGE, "a stage needs a student")
        if (self.iterations is None) == (self.epochs is None):
            raise PydanticCustomError(INCOMPLETE_STAGE, "a stage needs either iterations or epochs")
        if self.batch_size % self.optim.accumulate:
            raise PydanticCustomError(INCOMPLETE_STAGE, "batch_size must be a multiple of optim.accumulate")
        return self


class EvaluationSet(Section):
    """A labelled dataset, and the protocol under which models are measured on it."""

    data: Annotated[DatasetConfig, Kind("dataset")]
    """A labelled dataset that was not trained on."""
    protocol: str = "affine-disparity"
    """Named protocol, for instance ``affine-disparity``, ``affine-depth`` or ``metric``."""
    limit: Positive | None = None
    """Only the first so many samples."""


class EvaluationConfig(EvaluationSet):
    """What is measured at the end."""

    also: list[EvaluationSet] = Field(default_factory=list)
    """Further sets, each with a table of its own at the end. Validation while training looks at the first set alone."""
    batch_size: Positive = 8
    """Images per forward pass."""
    trivial: bool = False
    """Also evaluate an untrained student and two trivial answers: a vertical ramp, the training set's mean map."""


class RunFields(Section):
    """What belongs to the run as a whole, and to no stage."""

    name: str = Field(default="run", pattern=RUN_NAME)
    """Name of the run, and of its folder. Without one, the run is called as its file is."""
    output: str = "runs"
    """Folder in which the run's folder is made."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides initial weights, order of the data, contexts and teacher draws."""
    device: str = Field(default="auto", pattern=DEVICE)
    """``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``."""
    deterministic: bool = False
    """Ask torch for deterministic algorithms only."""
    evaluation: EvaluationConfig | None = None
    """What is measured at the end; null = nothing."""
    report: bool = True
    """Write a self-contained report.html at the end."""
    log: Annotated[list[ComponentConfig], Kind("hook")] = Field(default_factory=lambda: [ComponentConfig(name="tensorboard")])
    """Where numbers and sample grids go besides ``metrics.jsonl``: names, ``[tensorboard, wandb]``, or names with options."""
    hooks: Annotated[list[ComponentConfig], Kind("hook")] = Field(default_factory=list)
    """Plugins' hooks into every stage, by name; unlike loggers, they may change what is trained."""


class RunConfig(RunFields):
    """A resolved run: what :func:`dadkit.config.load_run` answers and the engine trains. Every stage is complete."""

    stages: list[StageConfig] = Field(min_length=1)
    """The stages in order; the last one's result is the run's."""


class RunFile(StageFields, RunFields):
    """What a YAML file may say: the run's keys, the stages, and stage keys at the top level as the default of every stage."""

    extends: str | None = None
    """Another file, relative to this one's folder, of which this one says only the differences."""
    stages: list[StageConfig] = Field(default_factory=list)
    """The stages in order. Empty: the top level itself is the only stage, named ``main``."""
