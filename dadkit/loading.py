"""Build models by name, and read them back from run folders. The one door for the command line, the engine and users.

By convention the options ``weights`` and ``init`` of a model say where its *initial* weights come from. A trained result is
therefore rebuilt without them, and the file it was initialised from need not exist any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dadkit.config.components import build
from dadkit.errors import DadkitError, first_line
from dadkit.files import really
from dadkit.interfaces import Completer, DeployedModel, DepthModel, Exporter, FeatureEncoder, FrozenTeacher, Student, Teacher

if TYPE_CHECKING:
    import torch

__all__ = [
    "PRECISIONS",
    "LoadError",
    "ModelCard",
    "load_completer",
    "load_encoder",
    "load_model",
    "load_reference",
    "load_result",
    "load_student",
    "load_teacher",
    "pick_device",
    "read_card",
    "rebuild_options",
    "result_path",
    "set_precision",
]

INITIAL_WEIGHTS = ("weights", "init", "pretrained")
METADATA_KEY = "dadkit"


class LoadError(DadkitError):
    """There is no such model, or its file cannot be used; the message says what was looked for and what to do."""

    exit_code = 2


@dataclass(frozen=True)
class ModelCard:
    """What the metadata of a result's ``model.safetensors`` say.

    Attributes:
        component: the student's registered name.
        options: its options, without those that name initial weights.
        space: the space of its answers.
        licenses: licences of all weights that went into it: its own initial ones and its teachers', transitively.
        versions: distribution -> version of dadkit and of every plugin that took part.
        run, stage: where it was trained.
        step: optimiser steps.
        config_hash: of the stage's configuration and of everything it was built on.
        unsound: combinations that ``allow_unsound`` permitted.
    """

    component: str
    options: Mapping[str, Any]
    space: str
    licenses: Sequence[str]
    versions: Mapping[str, str]
    run: str
    stage: str
    step: int
    config_hash: str
    unsound: Sequence[str] = ()

    def to_metadata(self) -> dict[str, str]:
        """As safetensors stores it: strings only. One key, since safetensors writes several in a random order, and the same
        training should give the same file.
        """
        return {METADATA_KEY: json.dumps(asdict(self), sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ModelCard:
        """Returns the inverse of :meth:`to_metadata`. Raises KeyError or ValueError if the metadata are not dadkit's."""
        found = json.loads(metadata[METADATA_KEY])
        return cls(**{name: found[name] for name in cls.__dataclass_fields__})


def load_teacher(name: str, **options: Any) -> Teacher:
    """Returns a frozen model that labels, by its registered name.

    Args:
        name: for instance ``"dav2/large"``; `dadkit teachers` lists what is installed.
        options: the teacher's own options (``weights=…``, …), validated by its plugin's model.

    Raises:
        dadkit.plugin.PluginError: the name is unknown or its plugin is broken; the message says what to do.
        dadkit.config.ConfigError: an option is unknown or has a wrong value.
    """
    model = build("teacher", name, options)
    if isinstance(model, Teacher):
        model.freeze()
        return model
    return FrozenTeacher(_checked(model, DepthModel, "teacher", name))


def load_student(name: str, **options: Any) -> Student:
    """Returns a model that learns, by its registered name. Arguments and errors as in :func:`load_teacher`."""
    student: Student = _checked(build("student", name, options), Student, "student", name)
    return student


def load_encoder(name: str, **options: Any) -> FeatureEncoder:
    """Returns a frozen network that answers with features, by its registered name. Arguments and errors as in
    :func:`load_teacher`.
    """
    encoder: FeatureEncoder = _checked(build("encoder", name, options), FeatureEncoder, "encoder", name)
    encoder.freeze()
    return encoder


def load_completer(path_or_name: str | Path, **options: Any) -> Completer:
    """Returns what makes dense metres of sparse ones: the result of a run that trained it, or a registered completer; in eval
    mode.

    Args:
        path_or_name: a run folder, a stage's folder, a ``model.safetensors`` written by dadkit, or a registered name.
        options: of a registered completer. For a trained one: what is changed of its own, such as ``keep``.

    Raises:
        LoadError: the file is not a completer's.
        dadkit.plugin.PluginError, dadkit.config.ConfigError: as in :func:`load_teacher`.
    """
    path = Path(path_or_name).expanduser()
    if not path.exists():
        made: Completer = _checked(build("completer", str(path_or_name), options), Completer, "completer", str(path_or_name))
        return made.eval()
    file = result_path(path)
    card = read_card(file)
    model: Completer = _checked(
        build("completer", card.component, {**card.options, **options}), Completer, "completer", card.component
    )
    _fill(model, file, card)
    model.spec = replace(model.spec, license=" AND ".join(card.licenses))
    return model.eval()


def load_reference(name: str, **options: Any) -> FeatureEncoder | Teacher:
    """Returns a frozen model with features: the encoder of that registered name or, if there is none, the teacher.

    Arguments and errors as in :func:`load_teacher`.
    """
    from dadkit.plugin import get_registry

    kind = get_registry().resolve_first(("encoder", "teacher"), name).kind
    return load_encoder(name, **options) if kind == "encoder" else load_teacher(name, **options)


def load_model(path_or_name: str | Path, **options: Any) -> DepthModel:
    """Returns a model to predict with: the result of a training run, or a registered one; in eval mode, on the CPU.

    Args:
        path_or_name: a run folder (its last finished stage), a stage's folder, a ``model.safetensors`` or an exported file
            written by dadkit, or a registered name, teachers before students.
        options: of a registered model; a trained result knows its own.

    Raises:
        LoadError: neither a path nor a name, or a file that dadkit did not write; the message says what to do.
        dadkit.plugin.PluginError: the plugin that a result needs is missing or broken.
    """
    path = Path(path_or_name).expanduser()
    if not path.exists():
        return _registered(str(path_or_name), options)
    if options:
        raise LoadError(f"{path} is a trained result and knows its options; leave out {', '.join(options)}")
    if path.suffix != ".safetensors" and (path.is_file() or _exporter_of(path)[0] is not None):
        return _deployed(path)
    return load_result(result_path(path))


def load_result(file: Path) -> Student:
    """Returns the model in a ``model.safetensors`` written by dadkit, with all its licences in ``spec.license``; in eval mode.

    Warns where a plugin that took part is installed in another version now.
    """
    from dadkit.plugin import get_registry, warn_of_other_versions
    from dadkit.weights import note_file

    card = read_card(file)
    note_file(file, file)
    model = load_student(card.component, **card.options)
    _fill(model, file, card)
    model.spec = replace(model.spec, license=" AND ".join(card.licenses))
    warn_of_other_versions(card.versions, get_registry().versions_in_use(), what=str(file))
    return model.eval()


def _fill(model: Any, file: Path, card: ModelCard) -> None:
    """Load the weights of a result into the model that its card names."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        raise LoadError(
            f"{file} does not fit '{card.component}': {error}\n"
            f"It was written with {', '.join(f'{name} {version}' for name, version in card.versions.items())}"
        ) from error


def read_card(file: Path) -> ModelCard:
    """Returns the metadata of a ``model.safetensors`` written by dadkit. Reads the header only."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as handle:
            metadata = handle.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise LoadError(f"cannot read {file}: {error}. Is it a whole .safetensors file?") from error
    try:
        return ModelCard.from_metadata(metadata)
    except (KeyError, ValueError, TypeError) as error:
        raise LoadError(
            f"{file} was not written by dadkit as a stage's result, so it does not say which model it holds. "
            "Load it through its plugin instead, for instance with the option weights=…"
        ) from error


def result_path(path: Path) -> Path:
    """Returns the ``model.safetensors`` of a run folder or of a stage's folder, or the file itself.

    Raises:
        LoadError: the folder holds no finished stage.
    """
    if path.is_file():
        return path
    if (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    finished = _finished(path)
    if finished:
        return finished[-1]
    if (path / "config.yaml").is_file():
        raise LoadError(f"no stage of the run in {path} is finished yet; go on with: dadkit train {path / 'config.yaml'}")
    raise LoadError(f"{path} is neither a run folder, nor a stage's folder, nor a model.safetensors")


def rebuild_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a student's options without those that name initial weights: what its trained result is rebuilt with.

    Options of a part, such as an encoder, are treated alike.
    """
    return {
        name: rebuild_options(value) if isinstance(value, Mapping) else value
        for name, value in options.items()
        if name not in INITIAL_WEIGHTS
    }


PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp64": "float64"}
"""Words for a model's precision -> torch's."""


def set_precision(model: DepthModel, name: str) -> DepthModel:
    """Returns the model with all parameters in that precision, one of :data:`PRECISIONS`; answers stay float32.

    Raises:
        LoadError: no such precision.
    """
    import torch

    if name not in PRECISIONS:
        raise LoadError(f"unknown precision '{name}'; choose from {', '.join(PRECISIONS)}")
    if name != "fp32" and isinstance(model, DeployedModel):
        raise LoadError(
            f"{model.spec.name} is a file and computes in its own precision, {model.facts['precision']}; leave it out"
        )
    return model if name == "fp32" else model.to(getattr(torch, PRECISIONS[name]))


def pick_device(name: str, *, apple: bool = True) -> torch.device:
    """Returns the device of that name; ``auto`` is the first CUDA GPU, else Apple's (``mps``), else the CPU.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        apple: ``auto`` may be ``mps``. Training says False: Apple's GPU has no float64 and no fused losses.

    Raises:
        DadkitError: no such device here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if apple and torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name.lower())
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        reason = "choose from auto, cpu, cuda, cuda:1, mps" if "Expected one of" in reason else reason
        raise LoadError(f"device '{name}' cannot be used here: {reason}") from error
    return device


def _finished(run: Path) -> list[Path]:
    """Returns the results of a run's finished stages, in the order of its configuration."""
    done = {path: json.loads(path.read_text()) for path in (run / "stages").glob("*/done.json")}
    return [path.with_name("model.safetensors") for path in sorted(done, key=lambda path: int(done[path]["index"]))]


def _exporter_of(path: Path) -> tuple[Exporter | None, list[str]]:
    """Returns the exporter whose files have the suffix of ``path``, and why others could not be asked."""
    from dadkit.plugin import PluginError, get_registry

    registry, missing = get_registry(), []
    for component in registry.components("exporter") if path.suffix else ():
        try:
            target = registry.load(component)
        except PluginError as error:
            missing.append(str(error))
            continue
        if getattr(target, "suffix", None) == path.suffix:
            exporter: Exporter = build("exporter", component.name)
            return exporter, missing
    return None, missing


def _deployed(path: Path) -> DeployedModel:
    """Returns the model in a file that `dadkit export` wrote, by the exporter of its suffix."""
    from dadkit.weights import note_file

    exporter, missing = _exporter_of(path)
    if exporter is None:
        if (words := really(path)) is not None:
            raise LoadError(f"{path} is no model; the file is {words}")
        reasons = "".join(f"; {text}" for text in missing)
        raise LoadError(f"{path} is no model: neither a .safetensors nor a file of an exporter{reasons}")
    if exporter.runs_here is not None:
        raise LoadError(f"{path} does not run here: {exporter.runs_here}")
    try:
        facts = json.loads(exporter.metadata(path).get(METADATA_KEY, "null"))
    except Exception as error:  # each runtime's reader has errors of its own for files that are damaged or something else
        raise LoadError(f"{path} cannot be read as a model: {really(path) or first_line(error)}") from error
    if facts is None:
        raise LoadError(
            f"{path} was not written by dadkit, so it does not say what its numbers mean. An ONNX file of others is a "
            f"teacher with options: onnx/auto:file={path.name},space=disparity"
        )
    for file in (path, *exporter.companions(path)):
        note_file(file, file)
    return DeployedModel(exporter, path, facts)


def _registered(name: str, options: Mapping[str, Any]) -> DepthModel:
    from dadkit.plugin import PluginError, get_registry

    try:
        kind = get_registry().resolve_first(("teacher", "student"), name).kind
    except PluginError as error:
        path = Path(name).expanduser()
        near = get_close_matches(path.name, [found.name for found in path.parent.glob("*")], n=1)
        missing = f"there is no file or folder '{name}'"
        missing += f", did you mean '{path.parent / near[0]}'?" if near else f" (looked for {path.absolute()})"
        if near or path.is_absolute() or name.startswith(".") or (path.parent.is_dir() and "/" in name):  # meant as a path
            raise LoadError(f"{missing}; `dadkit teachers` and `dadkit students` list the models with names") from error
        raise LoadError(f"{missing}, and no model of that name: {error}") from error
    return load_teacher(name, **options) if kind == "teacher" else load_student(name, **options).eval()


def _checked(model: Any, base: type[Any], kind: str, name: str) -> Any:
    if not isinstance(model, base):
        raise TypeError(f"{kind} '{name}' built a {type(model).__qualname__}, which is not a dadkit.interfaces.{base.__name__}")
    return model
