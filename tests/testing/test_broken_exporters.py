"""Exporters that are broken on purpose, in one way, which one check catches and no other."""

from __future__ import annotations

import sys

import torch

from dadkit.testing.toy import ToyExporter

TOYS = {"exporter": ToyExporter}


class Baked(ToyExporter):
    """Answers at the example's size, whatever comes."""

    def open(self, path, *, threads=0):
        run = super().open(path)
        return lambda images: run(images)[:, :, :12, :20]


class Forgetful(ToyExporter):
    def metadata(self, path):
        return {key: value.replace("\n", " ") for key, value in super().metadata(path).items()}


class Telling(ToyExporter):
    def write(self, network, path, request):
        super().write(network, path, request)
        path.with_name("log.txt").write_text(f"written with {torch.__file__} of {sys.version}")


ROWS = [
    ("exporter", "builds", object, {}),
    ("exporter", "builds", type("NoDot", (ToyExporter,), {"suffix": "pt2"}), {}),
    ("exporter", "writes", Baked, {}),
    ("exporter", "remembers", Forgetful, {}),
    ("exporter", "private", Telling, {}),
]


def test_a_good_toy_passes_everything(passes, kind):
    passes(kind, TOYS[kind])


def test_a_broken_toy_is_caught_by_its_check_and_no_other(is_caught, row):
    is_caught(*row)


def test_every_check_has_its_broken_toy(proves_every_check, kind):
    proves_every_check(kind, ROWS)
