"""A stage's result on disk: weights with metadata that say what they are and what went into them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dadkit.config.schema import RunConfig, StageConfig
from dadkit.errors import DadkitError
from dadkit.files import atomic_path
from dadkit.loading import ModelCard, read_card, rebuild_options
from dadkit.training.stage import Stage

__all__ = ["make_card", "write_result"]


def make_card(
    run: RunConfig, stage: Stage, results: Mapping[str, Path], versions: Mapping[str, str], *, step: int, digest: str
) -> ModelCard:
    """The metadata of a stage's result.

    Args:
        run: the run.
        stage: the stage.
        results: earlier stages' results; a student taken from one keeps its component and options.
        versions: distribution -> version of everything that took part.
        step: the iteration that the weights are from.
        digest: hash of what the weights depend on.
    """
    component, options = _student(stage.config, results)
    return ModelCard(
        component=component,
        options=options,
        space=str(stage.student.spec.space),
        licenses=list(stage.licenses),
        versions=dict(versions),
        run=run.name,
        stage=stage.name,
        step=step,
        config_hash=digest,
        unsound=list(stage.unsound),
    )


def write_result(path: Path, weights: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write a ``model.safetensors`` that ``dadkit.load_model`` reads, whole or not at all."""
    with atomic_path(path) as temporary:
        try:
            save_file(dict(weights), temporary, metadata=card.to_metadata())
        except SafetensorError as error:  # its own name for a full disk
            raise DadkitError(f"cannot write {path}: {error}; free some space and run the same command again") from error


def _student(config: StageConfig, results: Mapping[str, Path]) -> tuple[str, dict[str, object]]:
    assert config.student is not None
    if config.student.stage is not None:
        card = read_card(results[config.student.stage])
        return card.component, dict(card.options)
    assert config.student.name is not None
    return config.student.name, rebuild_options(config.student.options)
