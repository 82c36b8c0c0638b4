"""Several processes that train one model, started by ``torchrun``: their ranks, and how they agree.

Every process (*rank*) builds the same run and reads its own share of each batch. Rank 0 alone writes: logs, checkpoints,
results, the report; it holds the run's lock. What has to be the same everywhere follows from (seed, stage, step), and what
cannot (a signal, a folder's state) is agreed on through the CPU, so that no rank waits for another's device.

``torchrun`` watches the processes: when one ends with an error it stops the others, and with ``--max-restarts`` starts all of
them again. Nothing here tries to go on with fewer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dadkit.errors import DadkitError
from dadkit.loading import pick_device

__all__ = ["ALONE", "PeerLostError", "Ranks", "join", "lost_peers", "restart_hint"]

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a rank waits where rank 0 may be busy for hours, evaluating. A rank that dies is noticed at once, by its sockets."""


class PeerLostError(DadkitError):
    """Another process of the run ended while this one waited for it."""


class Ranks:
    """The processes of a run, seen from one of them.

    Args:
        rank: this one's number.
        count: how many there are.
        local: this one's number on its machine, which is the number of its GPU.
        control: a gloo group for what is agreed on through the CPU; None if there is one process.
    """

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0, control: dist.ProcessGroup | None = None) -> None:
        self.rank, self.count, self.local, self._control = rank, count, local, control
        self._reports: bool | None = None

    @property
    def main(self) -> bool:
        """True if this is the rank that writes."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """True if there are other processes."""
        return self.count > 1

    @property
    def share(self) -> tuple[int, int]:
        """(rank, count): which part of each batch is this one's."""
        return self.rank, self.count

    def device(self, name: str) -> torch.device:
        """Returns the device that a run's ``device`` means here: each process of a machine takes a GPU of its own.

        Raises:
            DadkitError: it names one GPU for all, or there are fewer GPUs than processes.
        """
        if not self.several:
            return pick_device(name, apple=False)
        kind = pick_device("cpu" if name == "cpu" else name.partition(":")[0])
        if kind.type == "cpu":
            return kind
        if ":" in name:
            raise DadkitError(f"device: {name} is one device, but {self.count} processes train; write device: {kind.type}")
        if kind.type == "cuda" and self.local >= torch.cuda.device_count():
            raise DadkitError(
                f"process {self.local} of this machine finds {torch.cuda.device_count()} GPUs; start no more processes than "
                "that (--nproc-per-node), or train on the CPU with device=cpu"
            )
        device = torch.device(kind.type, self.local)
        if kind.type == "cuda":
            torch.cuda.set_device(device)  # also where somebody else made the process group
        return device

    def any(self, flag: bool) -> bool:
        """True if the flag is set on any rank."""
        return bool(self.union([flag])[0])

    def union(self, flags: Sequence[bool]) -> list[bool]:
        """Returns which of these flags are set on any rank."""
        if not self.several:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.uint8)
        with lost_peers():
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self._control)
        return found.bool().tolist()

    def gather(self, value: T) -> list[T]:
        """Plain data of every rank, in the order of ranks, everywhere."""
        if not self.several:
            return [value]
        found: list[Any] = [None] * self.count
        with lost_peers():
            dist.all_gather_object(found, value, group=self._control)
        return found

    def from_main(self, function: Callable[[], T]) -> T:
        """Returns what ``function`` answers on rank 0 (plain data), everywhere. The others wait, however long it takes."""
        found: list[Any] = [function() if self.main else None]
        if self.several:
            with lost_peers():
                dist.broadcast_object_list(found, src=0, group=self._control)
        answer: T = found[0]
        return answer

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors with those of rank 0."""
        if self.several:
            with lost_peers(), torch.no_grad():
                for tensor in tensors:
                    plain = tensor.detach().contiguous()
                    dist.broadcast(plain, src=0)
                    tensor.copy_(plain)

    def reports(self, error: BaseException) -> bool:
        """True if this process is the one to print an error: the first that fails, so that there is one message."""
        if not self.several:
            return True
        if self._reports is None:
            self._reports = self._is_first() if self.main or not isinstance(error, PeerLostError) else False
        return self._reports

    def _is_first(self) -> bool:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        try:
            store = dist.distributed_c10d._get_default_store()
            return bool(store.add(f"dadkit/failed/{attempt}", 1) == 1)
        except RuntimeError:  # rank 0, which keeps the store, is gone
            return True


def restart_hint() -> str | None:
    """Returns a warning about restarts by torchrun that may hang, if it was asked for them; see docs/runs.md."""
    environment = os.environ
    shared = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not shared or environment.get("TORCHELASTIC_MAX_RESTARTS", "0") == "0":
        return None
    return "restarts by torchrun may hang; before it is started, export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"


ALONE = Ranks()
"""One process."""

_joined: Ranks | None = None


@contextmanager
def join() -> Iterator[Ranks]:
    """Find the other processes of the run, if ``torchrun`` (or a process group that is already there) says that there are some.

    May be nested; the outermost call connects and disconnects.
    """
    global _joined
    if _joined is not None:
        yield _joined
        return
    owned = not dist.is_initialized()
    ranks = _connect()
    _joined = ranks
    try:
        yield ranks
        if ranks.several and ranks._reports is None:
            ranks.gather(None)  # rank 0 keeps the store that the others still speak to
    except DadkitError:
        raise
    except BaseException as error:
        ranks.reports(error)  # a traceback follows; the others need not say anything
        raise
    finally:
        _joined = None
    if owned and ranks.several and ranks._reports is None:  # after an error the end of the process closes everything
        dist.destroy_process_group()


def _connect() -> Ranks:
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
            return ALONE
        backend = "gloo"
        if torch.cuda.is_available():
            backend = "cpu:gloo,cuda:nccl"
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        # No device_id: it would connect NCCL at once, which a run with device: cpu does not want, nor more processes than GPUs,
        # that are to get a message of ours. Every collective here has tensors, which say the device; there is no barrier.
        with lost_peers():
            dist.init_process_group(backend)
    if dist.get_world_size() == 1:
        return ALONE
    local = int(os.environ.get("LOCAL_RANK", "0"))
    with lost_peers():
        control = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(control, dist.ProcessGroup)
    return Ranks(dist.get_rank(), dist.get_world_size(), local, control)


@contextmanager
def lost_peers() -> Iterator[None]:
    """Turns what torch raises when a peer is gone into :class:`PeerLostError`."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(
            "another process of this run ended, so this one ends too; its own message, or torchrun's, says why. "
            "The same command goes on from the last checkpoint"
        ) from error
