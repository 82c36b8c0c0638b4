"""A stream of which several processes each read a share: together they hand out what one would."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal

import pytest
import torch

from dadkit.contexts import LocalGlobal
from dadkit.data import Member, ProceduralScenes, Stream
from dadkit.data.perturbations import CutMix
from dadkit.data.sample import Sample


class Pictures:
    """Random pictures."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        return Sample(torch.randint(0, 256, (3, 24, 24), generator=generator, dtype=torch.uint8), str(index))


def stream(share=(0, 1), *, batch_size=7, cutmix=None, workers=0):
    contexts = LocalGlobal(view_size=16, crop_min=18, patch_size=16, overlap=4, n=2)
    members = [Member("a", Pictures(), 2.0), Member("b", Pictures())]
    return Stream(members, contexts, batch_size=batch_size, seed=1, name="main/x", share=share, cutmix=cutmix, workers=workers)


@pytest.mark.parametrize("cutmix", [None, CutMix(probability=1.0)])
@pytest.mark.parametrize("count", [2, 3])
def test_shares_make_up_the_batch(count, cutmix):
    whole = stream(cutmix=cutmix)
    shares = [stream((index, count), cutmix=cutmix) for index in range(count)]
    assert [place for share in shares for place in share.places] == list(range(7))
    for _ in range(3):
        batch, parts = next(whole), [next(share) for share in shares]
        assert sum((part.keys for part in parts), ()) == batch.keys
        for name, tensor in batch.tensors():
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), tensor), name
    assert {share.position for share in shares} == {whole.position}


def test_a_share_may_be_empty():
    empty = stream((0, 2), batch_size=1)
    assert not empty.places
    with pytest.raises(StopIteration):
        next(empty)
    assert next(stream((1, 2), batch_size=1)).keys == next(stream(batch_size=1)).keys


@pytest.mark.skipif(not hasattr(os, "getpgid"), reason="signals of POSIX")
def test_loader_processes_outlive_the_sigterm_that_stops_a_run():
    others = multiprocessing.active_children()
    with stream(workers=1) as reading, stream() as plain:
        assert next(reading).keys == next(plain).keys
        (worker,) = (child for child in multiprocessing.active_children() if child not in others)
        os.kill(worker.pid, signal.SIGTERM)  # as torchrun and cluster managers send it to every process of the group
        for _ in range(5):
            assert next(reading).keys == next(plain).keys
        assert worker.is_alive()
        os.kill(worker.pid, signal.SIGTERM)  # a second one is obeyed
        with contextlib.suppress(RuntimeError):  # torch's handler of SIGCHLD speaks up wherever the main thread happens to be
            worker.join(20)
        assert not worker.is_alive()


def test_samples_do_not_depend_on_the_number_of_shares():
    scenes = [Member("scenes", ProceduralScenes(count=5, size=24))]
    contexts = LocalGlobal(view_size=16, crop_min=18, patch_size=16, overlap=4, n=2)
    streams = [[Stream(scenes, contexts, batch_size=4, seed=0, name="s", share=(i, n)) for i in range(n)] for n in (1, 2, 4)]
    images = [torch.cat([next(share).images for share in shares]) for shares in streams]
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])
