"""The process around a component: its global state, compared before and after, and its network, switched off."""

from __future__ import annotations

import logging
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["differences", "known_state", "no_network", "random_states", "snapshot"]


def _matmul_precision(value: str) -> None:
    torch.set_float32_matmul_precision(value)


# Name -> (how to read it, how to set it, the value that a fresh process has).
_FLAGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object], Any]] = {
    "torch.get_default_dtype()": (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    "torch.is_grad_enabled()": (torch.is_grad_enabled, torch.set_grad_enabled, True),
    "torch.get_float32_matmul_precision()": (torch.get_float32_matmul_precision, _matmul_precision, "highest"),
    "torch.backends.cudnn.benchmark": (
        lambda: torch.backends.cudnn.benchmark,
        lambda value: setattr(torch.backends.cudnn, "benchmark", value),
        False,
    ),
    "torch.backends.cudnn.deterministic": (
        lambda: torch.backends.cudnn.deterministic,
        lambda value: setattr(torch.backends.cudnn, "deterministic", value),
        False,
    ),
    "torch.are_deterministic_algorithms_enabled()": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
        False,
    ),
    "the root logger's level": (lambda: logging.getLogger().level, logging.getLogger().setLevel, logging.WARNING),
}


_ODD_SEED = 914_027_365


def snapshot() -> dict[str, Any]:
    """Name -> value of what a component must leave as it found it; random generators are apart, in :func:`random_states`."""
    return {
        **{name: read() for name, (read, _, _) in _FLAGS.items()},
        "torch.get_num_threads()": torch.get_num_threads(),
        "torch.get_default_device()": str(torch.get_default_device()),
        "the root logger's handlers": list(logging.getLogger().handlers),
        "the working folder": os.getcwd(),
        "os.environ": dict(os.environ),
        "sys.path": list(sys.path),
    }


def random_states() -> dict[str, Any]:
    """Name -> state of the process's random generators."""
    states: dict[str, Any] = {"torch": torch.get_rng_state().tolist(), "random": random.getstate()}
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        states["numpy"] = (name, keys.tolist(), *rest)
    return states


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Returns the names of what is not as it was."""
    return [name for name, value in before.items() if after[name] != value]


@contextmanager
def known_state() -> Iterator[None]:
    """Flags as in a fresh process and random states that nothing else makes, since an earlier use of the component may have set
    them; flags are put back afterwards.
    """
    before = {name: read() for name, (read, _, _) in _FLAGS.items()}
    threads, folder, environment, path = torch.get_num_threads(), os.getcwd(), dict(os.environ), list(sys.path)
    handlers = list(logging.getLogger().handlers)
    try:
        for _, write, value in _FLAGS.values():
            write(value)
        torch.default_generator.manual_seed(_ODD_SEED)
        random.seed(_ODD_SEED)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(_ODD_SEED)
        yield
    finally:
        for name, (_, write, _) in _FLAGS.items():
            write(before[name])
        torch.set_num_threads(threads)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        logging.getLogger().handlers[:] = handlers


@contextmanager
def no_network() -> Iterator[None]:
    """Sockets that lead out of the machine refuse to connect, so that no check downloads anything."""
    real = socket.socket.connect, socket.getaddrinfo

    def connect(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple):  # a host and a port; local sockets have a path
            raise _refusal(address)
        real[0](self, address)

    def getaddrinfo(host: Any, port: Any, *more: Any, **keywords: Any) -> Any:
        raise _refusal((host, port))

    socket.socket.connect, socket.getaddrinfo = connect, getaddrinfo  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = real  # type: ignore[method-assign]


def _refusal(address: Any) -> OSError:
    return OSError(
        f"conformance checks use no network, but {address[0]}:{address[1]} was asked for; give options that need none"
    )
