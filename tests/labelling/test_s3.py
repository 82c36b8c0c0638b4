"""Labels in a bucket, behind a server that speaks S3."""

from __future__ import annotations

import logging
import tarfile
import time
from collections.abc import Iterator

import pytest
import torch

from dadkit.data import Images, Labels
from dadkit.data.label_set import record_name
from dadkit.data.store import BucketStore, open_store
from dadkit.errors import DataError
from dadkit.labelling import Claims, compact, finished_units, verify
from tests.labelling.conftest import Dim, contents, planned, run, work

pytestmark = pytest.mark.slow  # a server in this process


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket."""
    pytest.importorskip("s3fs")
    pytest.importorskip("flask")  # moto's server
    server_module = pytest.importorskip("moto.server")
    from moto.backends import get_backend

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    backend = get_backend("s3")["123456789012"]["aws"]
    backend.reset()
    backend.create_bucket("labels", "us-east-1")
    yield "s3://labels"
    server.stop()


def test_a_bucket_is_labelled_once_and_read_back(bucket, images):
    root = f"{bucket}/one"
    store, plan = planned(root, images)
    assert open_store(root, probe=True).names("") == sorted(["plan.json", plan.table])  # the probe leaves nothing
    slow = work(root, Dim(bit=0.125))
    assert run(root).labels == 24
    winner = store.read(record_name(0))
    slow(0)  # a worker that is late, with other last bits
    assert store.read(record_name(0)) == winner
    assert not store.create(record_name(0), b"{}")
    assert len(store.names("data")) == 2 * plan.units
    assert store.names("claims") == []
    compact(store, plan)
    assert verify(store, plan) == []
    assert len(contents(root)) == 48
    assert run(root).units == 0
    assert finished_units(store) == set(range(plan.units))
    labels = Labels(root)
    assert len(labels) == 24
    assert labels[7].depth is not None


def test_a_shard_in_a_bucket_is_read_in_place(bucket, images, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for file in sorted(images.glob("*.png")):
            tar.add(file, file.name)
    store = open_store(f"{bucket}/four")
    store.write("a.tar", (tmp_path / "a.tar").read_bytes())
    shard = Images(f"{bucket}/four/a.tar", min_size=1)
    assert len(shard) == 24
    assert torch.equal(shard[5].image, Images(images, min_size=1)[5].image)
    assert store.names("") == ["a.tar", "a.tar.index"]


def test_claims_in_a_bucket_are_void_after_a_time(bucket):
    store = open_store(f"{bucket}/two")
    with Claims(store, ttl=60) as mine, Claims(store, ttl=0.0) as other:
        assert mine.take(1)
        assert not Claims(store, ttl=60).take(1)
        time.sleep(1.1)  # a bucket's times are whole seconds
        assert other.take(1)


def test_a_store_that_replaces_is_refused(bucket, monkeypatch):
    monkeypatch.setattr(BucketStore, "create", lambda self, name, data, **_: self.write(name, data) is None)
    with pytest.raises(DataError, match="lets a second writer replace what a first has written"):
        open_store(f"{bucket}/three", probe=True)
    monkeypatch.undo()
