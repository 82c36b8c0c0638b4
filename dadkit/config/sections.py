"""The sections of a stage: models, data, perturbations, losses; and the places that name components (:class:`Kind`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from dadkit.config.tree import KeyPath

__all__ = [
    "AnchorLossConfig",
    "BlurConfig",
    "ColorConfig",
    "CompletionConfig",
    "ComponentConfig",
    "CutMixConfig",
    "DataConfig",
    "DatasetConfig",
    "ExtraLossConfig",
    "FeatureLossConfig",
    "GradientLossConfig",
    "Kind",
    "LossConfig",
    "MapLossConfig",
    "ModelConfig",
    "PerturbConfig",
    "ReferenceConfig",
    "Section",
    "Slot",
    "StudentConfig",
    "TeacherCacheConfig",
    "TeacherConfig",
    "find_slots",
    "kinds_of",
    "models_in",
    "slot_paths",
]


Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Kind:
    """Marks a field that names components: the kind (``teacher``, ``dataset``, …) under which they are registered.

    Where ``others`` are given, a name that is not registered as ``name`` is looked for among those, in their order.
    """

    name: str
    others: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every kind, in the order in which they are asked."""
        return (self.name, *self.others)


class Section(BaseModel):
    """A part of a configuration: unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ComponentConfig(Section):
    """A component by name, with the options that its own plugin defines and validates."""

    name: str
    """Registered name; `dadkit contexts`, `dadkit datasets`, … list what is installed."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the component; `dadkit config schema NAME` prints what it takes."""


@dataclass(frozen=True)
class Slot:
    """One place that names a component.

    Attributes:
        kinds: the kinds under which the component may be registered, in the order in which they are asked.
        path: keys from the top of the data to ``value``.
        value: the mapping at that place, ``{"name": …, "options": …}`` when it is right.
    """

    kinds: tuple[str, ...]
    path: KeyPath
    value: dict[str, Any]


def kinds_of(field: FieldInfo) -> tuple[str, ...]:
    """Returns the kinds of component that ``field`` may name, in the order in which they are asked; empty if it names none."""
    return next((mark.all for mark in field.metadata if isinstance(mark, Kind)), ())


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Returns the pydantic models that an annotation speaks of: itself, a list's items, a union's members."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def find_slots(model: type[BaseModel], data: Mapping[str, Any], path: KeyPath = ()) -> Iterator[Slot]:
    """Every slot of ``data``, which has, or was meant to have, the shape of ``model``. Whatever does not fit is passed over."""
    for name, field in model.model_fields.items():
        kinds = kinds_of(field)
        for place, value in _mappings(data.get(name), (*path, name)):
            if kinds:
                yield Slot(kinds, place, value)
            else:
                for inner in models_in(field.annotation):
                    yield from find_slots(inner, value, place)


def slot_paths(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the paths, without list indices, at which ``model`` names components."""
    for name, field in model.model_fields.items():
        if kinds_of(field):
            yield (*path, name)
        else:
            for inner in models_in(field.annotation):
                yield from slot_paths(inner, (*path, name))


def _mappings(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield (*path, index), item


class ModelConfig(Section):
    """A model: a registered component, or the result of an earlier stage."""

    name: str | None = None
    """Registered name, for instance ``dav2/small``; `dadkit students`, `dadkit teachers`, … list what is installed."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the model; `dadkit config schema NAME` prints what it takes."""
    stage: str | None = None
    """An earlier stage, whose result is used instead of a registered model."""

    _role: ClassVar[str] = "model"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        role = self._role
        if (self.name is None) == (self.stage is None):
            raise ValueError(f"a {role} is either a registered component (name: …) or an earlier stage's result (stage: …)")
        if self.stage is not None and self.options:
            raise ValueError(f"options belong to a {role} with a name, not to one taken from stage '{self.stage}'")
        return self


class StudentConfig(ModelConfig):
    """The model that a stage trains: a registered student, or the result of an earlier stage, which is trained further."""

    _role = "student"


class TeacherConfig(ModelConfig):
    """A frozen model that labels: a registered teacher, or the result of an earlier stage."""

    _role = "teacher"
    probability: Annotated[float, Field(gt=0)] = 1.0
    """Relative probability of being drawn for an iteration; an assistant has a smaller one (7:3 in Distill Any Depth)."""


class ReferenceConfig(ModelConfig):
    """A frozen model whose features are followed: a registered encoder or teacher, or the result of an earlier stage."""

    _role = "reference"


class CompletionConfig(Section):
    """Trains a completer: what it is given beside the pictures. Truth is data with metres, or a mix of the stage's teachers."""

    inputs: Annotated[list[TeacherConfig], Kind("teacher", ("student",)), Field(min_length=1)]
    """Frozen models whose maps are completed, drawn by ``probability``; none may be a teacher of the stage."""
    patterns: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=lambda: {
            "uniform": 0.4,
            "keypoints": 0.1,
            "lines": 0.15,
            "low-resolution": 0.1,
            "holes": 0.08,
            "half": 0.12,
            "range": 0.05,
        }
    )
    """Pattern of the points (:data:`dadkit.data.patterns.PATTERNS`) -> relative probability."""
    points: Annotated[tuple[int, int], Field(strict=False)] = (5, 5000)
    """Fewest and most points of a picture, drawn evenly on a logarithmic scale."""
    noise: Annotated[tuple[float, float], Field(strict=False)] = (0.005, 0.025)
    """Least and largest relative standard deviation of the points' depth."""
    outliers: Probability = 0.15
    """Largest share of wrong points; half of the pictures have none."""
    see_through: Probability = 0.1
    """Largest share of points that are seen past an edge; most pictures have none."""
    bend: Annotated[float, Field(ge=0)] = 0.12
    """Standard deviation of smooth random changes of half of the maps that are completed (their logarithm); 0 leaves them."""
    max_depth: Annotated[float, Field(gt=0)] = 80.0
    """Metres from which on true depth is not looked at."""


class TeacherCacheConfig(Section):
    """Where the teachers' answers are kept."""

    folder: str = "teacher-cache"
    """A folder for one file per answer (4 bytes a pixel); runs may share it."""
    max_gb: Annotated[float, Field(gt=0)] = 50.0
    """Gigabytes after which no more is written."""


class DatasetConfig(ComponentConfig):
    """One dataset of a mixture."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the samples drawn from this dataset, relative to the others."""


class DataConfig(Section):
    """Where images come from."""

    root: str | list[str] | None = None
    """Unlabelled images: a folder (recursive), a list file (.txt), tar shards (.tar), or several of these."""
    unlabelled: Annotated[list[DatasetConfig], Kind("dataset")] = Field(default_factory=list)
    """Further unlabelled datasets by name; labels are ignored, but maps of a teacher (`labels`) in a stage without teachers."""
    labelled: Annotated[list[DatasetConfig], Kind("dataset")] = Field(default_factory=list)
    """Datasets with true depth."""
    labelled_fraction: Probability = 0.5
    """Where both kinds are given: the share of each batch that is labelled."""
    near_floor: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Students of disparity: true depth below this share of its view's median counts as this share; 0 = as it is."""
    sky: Literal["leave", "far"] = "leave"
    """Metric students: sky in labels is left out of the losses, or counts as the farthest that the student can answer."""
    workers: Annotated[int, Field(ge=0)] = 2
    """Loader processes; 0 loads in the training process."""
    max_error_rate: Probability = 0.2
    """The run stops when more than this share of the samples read so far could not be read."""


class ColorConfig(Section):
    """Random colours of the student's view; the strengths are UniMatch's, since Depth Anything gives none."""

    probability: Probability = 0.8
    """Of changing an image at all."""
    brightness: Annotated[float, Field(ge=0)] = 0.5
    """The factor is uniform in [1 - x, 1 + x], not below 0."""
    contrast: Annotated[float, Field(ge=0)] = 0.5
    """The same for contrast."""
    saturation: Annotated[float, Field(ge=0)] = 0.5
    """The same for saturation."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.25
    """The shift is uniform in [-x, x] turns of the colour circle."""


class BlurConfig(Section):
    """Gaussian blur of the student's view; strengths as in UniMatch."""

    probability: Probability = 0.5
    """Of blurring an image at all."""
    sigma: Annotated[tuple[float, float], Field(strict=False)] = (0.1, 2.0)
    """Least and largest standard deviation, in pixels of the view."""

    @model_validator(mode="after")
    def _ordered(self) -> BlurConfig:
        _check_interval("sigma", self.sigma, above=0.0)
        return self


class CutMixConfig(Section):
    """A rectangle of the student's view comes from another image of the batch; both regions have losses of their own."""

    probability: Probability = 0.5
    """Of pasting into an image (Depth Anything: 0.5); 0 turns CutMix off."""
    area: Annotated[tuple[float, float], Field(strict=False)] = (0.02, 0.4)
    """Least and largest share of the view (UniMatch)."""
    ratio: Annotated[tuple[float, float], Field(strict=False)] = (0.3, 3.3333)
    """Least and largest height / width (UniMatch)."""

    @model_validator(mode="after")
    def _ordered(self) -> CutMixConfig:
        _check_interval("area", self.area, above=0.0, most=1.0)
        _check_interval("ratio", self.ratio, above=0.0)
        return self


class PerturbConfig(Section):
    """Strong perturbations of what the student sees of unlabelled images, while teachers see clean pixels (Depth Anything).

    Colours and blur change it of stored labels too (the dataset `labels`).
    """

    color: ColorConfig = Field(default_factory=ColorConfig)
    """Colour jittering."""
    blur: BlurConfig = Field(default_factory=BlurConfig)
    """Gaussian blurring."""
    cutmix: CutMixConfig = Field(default_factory=CutMixConfig)
    """CutMix. Patches of mixed images are not compared."""


class MapLossConfig(Section):
    """A loss on whole maps: which normalizer, how strongly."""

    weight: Weight = 1.0
    """Factor in the total; 0 turns the term off."""
    normalizer: Annotated[ComponentConfig, Kind("normalizer")] = Field(default_factory=lambda: ComponentConfig(name="hybrid"))
    """Makes the maps comparable: ``hybrid``, ``global``, ``local``, ``none``, or a plugin's."""
    trim: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each image's largest per-pixel losses that is dropped (Depth Anything V2: 0.1)."""

    @property
    def raw(self) -> bool:
        """True if values are compared as they are."""
        return self.normalizer.name == "none"


class FeatureLossConfig(Section):
    """Feature alignment between the student's and a frozen encoder's last tokens."""

    weight: Weight = 0.0
    """Factor in the total; 0 turns the term off."""
    reference: Annotated[ReferenceConfig | Literal["teacher"], Kind("encoder", ("teacher",))] = "teacher"
    """Whose tokens: ``teacher`` = the first teacher of the stage, or any registered encoder or teacher that offers tokens."""
    student_tap: str = "tokens"
    """Name of the student's feature tap."""
    reference_tap: str = "tokens"
    """Name of the reference's feature tap."""
    loss: Literal["cosine", "channel-kl", "channel-mse", "spatial-kl", "pairwise"] = "cosine"
    """How features are compared: ``cosine`` (Depth Anything), or a row of Robust Lightweight's ablation."""
    cos_threshold: Annotated[float, Field(ge=-1, le=1)] = 0.85
    """``cosine``: tokens whose similarity is already above this are left alone."""
    tau: Annotated[float, Field(gt=0)] = 1.0
    """``channel-kl``, ``channel-mse``, ``spatial-kl``: temperature of the distributions (not from the paper)."""


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
    on: Literal["both", "teachers", "labels"] = "both"
    """Which targets it looks at: pseudo-labels (``teachers``), true depth (``labels``), or both."""


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
    extra: Annotated[list[ExtraLossConfig], Kind("loss", ("term",))] = Field(default_factory=list)
    """Further registered losses and terms."""

    def needs(self) -> dict[str, frozenset[str]]:
        """Returns what the terms that are on and have a key of their own look at: key -> needs (``dadkit.interfaces.Need``).

        Training asks the built terms instead, which know more: a plugin's term declares its own.
        """
        maps = {"shared": "regions", "local_global": "patches", "labelled": "labels"}
        found: dict[str, frozenset[str]] = {}
        for key, where in maps.items():
            section: MapLossConfig = getattr(self, key)
            if section.weight > 0:
                scale_free = section.normalizer.name in ("hybrid", "global", "local")
                found[key] = frozenset({where} if scale_free else {where, "scale"})
        if self.gradient.weight > 0:
            found["gradient"] = frozenset(
                {"patches" if "local_global" in found and "shared" not in found else "regions", "labels"}
            )
        if self.feature.weight > 0:
            found["feature"] = frozenset({"features"})
        return found


def _check_interval(name: str, interval: tuple[float, float], *, above: float, most: float = float("inf")) -> None:
    low, high = interval
    if not above < low <= high <= most:
        limit = f" and at most {most:g}" if most < float("inf") else ""
        raise ValueError(f"{name} is [least, largest], above {above:g}{limit}, got [{low:g}, {high:g}]")
