"""Batch normalisation of a single value: torch refuses it in words that name no key of a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dadkit.config.schema import StageConfig
from dadkit.training.micro import Iteration
from dadkit.training.soundness import StageError

__all__ = ["explained_batch_norm"]

_TORCH = "Expected more than 1 value per channel when training"


@contextmanager
def explained_batch_norm(part: Iteration, config: StageConfig, processes: int = 1) -> Iterator[None]:
    """Around the student's forward pass of a micro-batch.

    Args:
        part: the micro-batch.
        config: the stage's.
        processes: that share each batch.

    Raises:
        StageError: a channel has one value in the whole micro-batch: one image, whose feature map is 1 x 1 by then.
    """
    try:
        yield
    except ValueError as error:
        if _TORCH not in str(error):
            raise
        among = f" among {processes} processes" if processes > 1 else ""
        raise StageError(
            f"stage '{config.name}': the student has batch normalisation of a feature map that is 1 x 1 at this view size, and "
            f"a micro-batch of {sum(part.here)} image leaves it one value per channel, which has no variance. Let every "
            f"micro-batch have two images: raise batch_size (now {config.batch_size}{among}), lower optim.accumulate (now "
            f"{config.optim.accumulate}) or the number of processes; or take a larger contexts.options.view_size"
        ) from error
