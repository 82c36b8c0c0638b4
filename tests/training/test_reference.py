"""The reference of feature alignment in whole runs: an encoder, a teacher, an earlier stage; and its licence, carried on."""

from __future__ import annotations

import dataclasses
import json

import dadkit_dinov2.model
import pytest

from dadkit.config import parse_run
from dadkit.loading import load_model, read_card
from dadkit.training.run import train

RUN = """
name: run
batch_size: 2
log_every: 1
sample_every: 100
channels_last: false
data: {workers: 0, unlabelled: [{name: procedural, options: {count: 6, size: [40, 48]}}]}
contexts: {name: shared, options: {view_size: 28, crop_min: 30}}
teachers: [{name: dav2/tiny, options: {weights: none}}]
student: {name: topformer/tiny, options: {native_size: 32}}
losses: {local_global: {weight: 0}, anchor: {warmup_maps: 2}, feature: {weight: 1, reference: REFERENCE}}
iterations: 2
report: false
"""


@pytest.fixture
def go(tmp_path, console):
    def go(reference: str, *overrides: str, text: str = RUN):
        return train(
            parse_run(text.replace("REFERENCE", reference), [f"output={tmp_path}", *overrides]), console=console
        ).folder

    return go


def features(folder) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss/feature"] for line in lines if "loss/feature" in line]


def test_an_encoder_is_followed_and_its_licence_is_carried_on(go, monkeypatch):
    spec = dadkit_dinov2.model.NetworkSpec
    monkeypatch.setattr(
        dadkit_dinov2.model, "NetworkSpec", lambda **fields: dataclasses.replace(spec(**fields), license="Reference-1.0")
    )
    folder = go("{name: dinov2/tiny}")
    assert all(0 < value < 2 for value in features(folder))
    card = read_card(folder / "stages/main/model.safetensors")
    assert card.licenses == ["Apache-2.0", "Reference-1.0"]
    metadata = json.loads((folder / "run.json").read_text())
    assert metadata["licenses"] == ["Apache-2.0", "Reference-1.0"]
    (component,) = [c for c in metadata["components"] if c["kind"] == "encoder"]
    assert (component["name"], component["license"]) == ("dinov2/tiny", "Apache-2.0")
    assert load_model(folder).spec.license == "Apache-2.0 AND Reference-1.0"


def test_a_reference_without_weight_takes_no_part(go):
    folder = go("{name: dinov2/tiny}", "losses.feature.weight=0")
    assert features(folder) == []


def test_a_registered_teacher_is_followed(go):
    folder = go("{name: dav2/tiny, options: {weights: none}}")
    assert all(0 < value < 2 for value in features(folder))


def test_an_earlier_stage_is_followed(go):
    stages = """
stages:
  - {name: first, losses: {feature: {weight: 0, reference: teacher}}}
  - {name: second, losses: {feature: {reference: {stage: first}}}}
"""
    folder = go("{stage: first}", text=RUN + stages)
    assert all(0 < value < 2 for value in features(folder))
    assert read_card(folder / "stages/second/model.safetensors").licenses == ["Apache-2.0"]
