"""The shape of a run: what a YAML file may say, and what it means once it is resolved.

Every field is described here once; ``dadkit config schema`` prints the result and the configuration page is checked against
it. A run is a list of stages. In a file (:class:`RunFile`), what stands at the top level under a stage's own keys is the
default of every stage; in a resolved run (:class:`RunConfig`) every stage is complete and nothing else holds such keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

__all__ = [
    "AnchorLossConfig",
    "ComponentConfig",
    "DataConfig",
    "DatasetConfig",
    "EvaluationConfig",
    "ExtraLossConfig",
    "FeatureLossConfig",
    "GradientLossConfig",
    "Kind",
    "LossConfig",
    "MapLossConfig",
    "OptimConfig",
    "RunConfig",
    "RunFields",
    "RunFile",
    "Section",
    "StageConfig",
    "StageFields",
    "StudentConfig",
    "TeacherConfig",
]

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]

RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
# No dots and no leading digit, so that `stages.NAME.key=value` always means one thing.
STAGE_NAME = r"^[a-z][a-z0-9_-]*$"
DEVICE = r"^(auto|[a-z]+(:[0-9]+)?)$"
INCOMPLETE_STAGE = "incomplete_stage"


@dataclass(frozen=True)
class Kind:
    """Marks a field that names components: the kind (``teacher``, ``dataset``, …) under which they are registered."""

    name: str


class Section(BaseModel):
    """A part of a configuration: unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ComponentConfig(Section):
    """A component by name, with the options that its own plugin defines and validates."""

    name: str
    """Registered name; `dadkit contexts`, `dadkit datasets`, … list what is installed."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the component; `dadkit config schema NAME` prints what it takes."""


class DatasetConfig(ComponentConfig):
    """One dataset of a mixture."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the samples drawn from this dataset, relative to the others."""


class DataConfig(Section):
    """Where images come from."""

    root: str | list[str] | None = None
    """Unlabelled images: a folder (recursive), a list file (.txt), tar shards (.tar), or several of these."""
    unlabelled: Annotated[list[DatasetConfig], Kind("dataset")] = Field(default_factory=list)
    """Further unlabelled datasets by name; their labels, if they have any, are ignored."""
    labelled: Annotated[list[DatasetConfig], Kind("dataset")] = Field(default_factory=list)
    """Datasets with true depth."""
    labelled_fraction: Probability = 0.5
    """Where both kinds are given: the share of each batch that is labelled."""
    workers: Annotated[int, Field(ge=0)] = 2
    """Loader processes; 0 loads in the training process."""
    max_error_rate: Probability = 0.2
    """The run stops when more than this share of the samples read so far could not be read."""


class StudentConfig(Section):
    """The model that a stage trains: a registered student, or the result of an earlier stage."""

    name: str | None = None
    """Registered student, for instance ``topformer/tiny``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the student."""
    stage: str | None = None
    """Go on training the result of this earlier stage instead."""

    @model_validator(mode="after")
    def _one_source(self) -> StudentConfig:
        _check_source(self, "student")
        return self


class TeacherConfig(Section):
    """A frozen model that labels: a registered teacher, or the result of an earlier stage."""

    name: str | None = None
    """Registered teacher, for instance ``dav2/large``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the teacher."""
    stage: str | None = None
    """Use the result of this earlier stage instead."""
    probability: Annotated[float, Field(gt=0)] = 1.0
    """Relative probability of being drawn for an iteration; an assistant has a smaller one (7:3 in Distill Any Depth)."""

    @model_validator(mode="after")
    def _one_source(self) -> TeacherConfig:
        _check_source(self, "teacher")
        return self


class MapLossConfig(Section):
    """A loss on whole maps: which normalizer, how strongly."""

    weight: Weight = 1.0
    """Factor in the total; 0 turns the term off."""
    normalizer: Annotated[ComponentConfig, Kind("normalizer")] = Field(default_factory=lambda: ComponentConfig(name="hybrid"))
    """Makes the maps comparable: ``hybrid``, ``global``, ``local``, ``none``, or a plugin's."""
    trim: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each image's largest per-pixel losses that is dropped (Depth Anything V2: 0.1)."""


class FeatureLossConfig(Section):
    """Feature alignment between the student's and a frozen encoder's last tokens."""

    weight: Weight = 0.0
    """Factor in the total; 0 turns the term off."""
    reference: Annotated[TeacherConfig | Literal["teacher"], Kind("teacher")] = "teacher"
    """Whose tokens: ``teacher`` = the first teacher of the stage, or any registered teacher that offers tokens."""
    student_tap: str = "tokens"
    """Name of the student's feature tap."""
    reference_tap: str = "tokens"
    """Name of the reference's feature tap."""
    cos_threshold: Annotated[float, Field(ge=-1, le=1)] = 0.85
    """Tokens whose cosine similarity is already above this are left alone."""


class GradientLossConfig(Section):
    """Multi-scale gradient matching on globally normalised maps."""

    weight: Weight = 2.0
    """Factor in the total; 0 turns the term off."""
    scales: Annotated[int, Field(ge=1, le=8)] = 4
    """Number of scales, each half the size of the one before."""


class AnchorLossConfig(Section):
    """Keeps the student's magnitude in place, which the scale-free losses leave open."""

    weight: Weight = 0.1
    """Factor in the total; 0 turns the term off. Always off for metric students and under ``none``."""
    warmup_maps: Positive = 64
    """Maps of each teacher from which its typical scale is measured, before it is frozen."""


class ExtraLossConfig(ComponentConfig):
    """A registered loss on whole maps: the shared-context pair, and true depth."""

    weight: Weight = 1.0
    """Factor in the total."""


class LossConfig(Section):
    """The terms of the total: ``shared + 0.5 local_global + feature + 2 gradient + anchor`` (Distill Any Depth, eq. 9)."""

    shared: MapLossConfig = Field(default_factory=MapLossConfig)
    """Teacher and student on the same region (L_sc)."""
    local_global: MapLossConfig = Field(default_factory=lambda: MapLossConfig(weight=0.5))
    """Teacher on native-detail patches of the region against the student's one map (L_lg); needs contexts with patches."""
    labelled: MapLossConfig = Field(default_factory=lambda: MapLossConfig(normalizer=ComponentConfig(name="global")))
    """Student against true depth, on labelled data."""
    gradient: GradientLossConfig = Field(default_factory=GradientLossConfig)
    """Gradient matching on the shared pair, and on true depth (L_grad)."""
    feature: FeatureLossConfig = Field(default_factory=FeatureLossConfig)
    """Feature alignment on unlabelled images (L_feat)."""
    anchor: AnchorLossConfig = Field(default_factory=AnchorLossConfig)
    """Scale anchor on the shared pair and on true depth (not from a paper)."""
    extra: Annotated[list[ExtraLossConfig], Kind("loss")] = Field(default_factory=list)
    """Further registered losses, on the shared pair and on true depth."""


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
    """Everything that may stand in a stage, or at the top level as the default of every stage."""

    student: Annotated[StudentConfig | None, Kind("student")] = None
    """The model that this stage trains."""
    teachers: Annotated[list[TeacherConfig], Kind("teacher")] = Field(default_factory=list)
    """Models that label; one is drawn per iteration by ``probability``. Empty: train on true depth only."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Where images come from."""
    contexts: Annotated[ComponentConfig, Kind("context")] = Field(default_factory=lambda: ComponentConfig(name="local-global"))
    """Where student and teacher look: ``local-global``, ``shared``, ``whole``, or a plugin's sampler."""
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


class EvaluationConfig(Section):
    """What is measured at the end."""

    data: Annotated[DatasetConfig, Kind("dataset")]
    """A labelled dataset that was not trained on."""
    protocol: str = "affine-disparity"
    """Named protocol, for instance ``affine-disparity``, ``affine-depth`` or ``metric``."""
    limit: Positive | None = None
    """Only the first so many samples."""
    batch_size: Positive = 8
    """Images per forward pass."""
    trivial: bool = False
    """Also evaluate an untrained student and two trivial answers: a vertical ramp, the training set's mean map."""


class RunFields(Section):
    """What belongs to the run as a whole, and to no stage."""

    name: str = Field(default="run", pattern=RUN_NAME)
    """Name of the run; also of its folder. A file that gives none lends its own name."""
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


class RunConfig(RunFields):
    """A resolved run: what :func:`dadkit.config.load_run` answers and the engine trains. Every stage is complete."""

    stages: list[StageConfig] = Field(min_length=1)
    """The stages in order; the last one's result is the run's."""


class RunFile(StageFields, RunFields):
    """What a YAML file may say: the run's keys, the stages, and stage keys at the top level as the default of every stage."""

    stages: list[StageConfig] = Field(default_factory=list)
    """The stages in order. Empty: the top level itself is the only stage, named ``main``."""


def _check_source(section: StudentConfig | TeacherConfig, role: str) -> None:
    if (section.name is None) == (section.stage is None):
        raise ValueError(f"a {role} is either a registered component (name: …) or an earlier stage's result (stage: …)")
    if section.stage is not None and section.options:
        raise ValueError(f"options belong to a {role} with a name, not to one taken from stage '{section.stage}'")
