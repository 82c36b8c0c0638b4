"""Teachers' answers on disk: the same answers, found by weights and pixels, bounded, and refused where they are of no use."""

from __future__ import annotations

import pytest
import torch

from dadkit.config import parse_run
from dadkit.contexts import LocalGlobal, Shared, Whole
from dadkit.interfaces import Prediction, Teacher
from dadkit.loading import load_model
from dadkit.training.label_cache import CachedTeacher, are_fixed
from dadkit.training.labels import label
from dadkit.training.run import train
from dadkit.training.soundness import StageError


@pytest.fixture
def cached(toys, tmp_path):
    """A cached toy teacher in one folder."""

    def make(teacher=None, *, identity=("options", 1), max_bytes=1e9):
        return CachedTeacher(teacher or toys.Teacher(), dict([identity]), tmp_path / "cache", max_bytes)

    return make


def files(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.safetensors"))


def test_an_answer_is_asked_for_once_and_comes_back_exactly(cached, toys, tmp_path):
    teacher = toys.Teacher()
    images = toys.batch(3).images
    first = label(cached(teacher), images, None, teacher.spec.space)
    assert len(files(tmp_path)) == 3
    again = cached(toys.Teacher())  # another process
    second = label(again, images, None, teacher.spec.space)
    assert torch.equal(first.region, second.region)
    assert torch.equal(first.region_mask, second.region_mask)
    assert (again.hits, again.misses, len(again.model.calls)) == (3, 0, 0)
    assert not second.region.is_inference()


def test_validity_is_kept(cached, toys):
    class Half(toys.Teacher):
        def forward(self, images):
            answer = super().forward(images)
            return Prediction(answer.depth, answer.space, answer.depth > answer.depth.mean())

    images = torch.rand(2, 3, 8, 8).mul(255).round() / 255
    teacher = cached(Half())
    first, second = teacher(images), teacher(images)
    assert torch.equal(first.valid, second.valid)
    assert teacher.hits == 2


def test_other_weights_options_pixels_or_sizes_find_nothing(cached, toys):
    images = toys.batch(1).images / 255
    cached()(images)
    other = toys.Teacher()
    torch.nn.init.constant_(other.weight, 2.0)
    for teacher, shown in (
        (cached(other), images),
        (cached(identity=("options", 2)), images),
        (cached(), images.flip(-1)),
        (cached(), images[..., :8]),
    ):
        teacher(shown)
        assert teacher.hits == 0
    same = cached()
    same(images)
    assert same.hits == 1


def test_a_batch_with_one_unknown_image_is_asked_as_a_whole(cached, toys):
    images = toys.batch(4).images / 255
    cached()(images[:3])
    teacher = cached()
    teacher(images)
    assert [shape[0] for shape in teacher.model.calls] == [4]


def test_what_was_kept_is_answered_whatever_it_is_asked_with(cached, toys):
    """Else a resumed run, which finds more files than the one that wrote them, would go on with other last bits."""

    class LastBits(toys.Teacher):
        def forward(self, images):
            answer = super().forward(images)
            sides = answer.depth > answer.depth.median()
            return Prediction(answer.depth + 1e-3 * len(images), answer.space, sides)

    images = toys.batch(3).images / 255
    teacher = cached(LastBits())
    alone = teacher(images[:1])
    mixed = teacher(images)  # one kept, two fresh
    again = cached(LastBits())(images)
    assert torch.equal(mixed.depth[:1], alone.depth)
    assert torch.equal(mixed.valid[:1], alone.valid)
    assert torch.equal(mixed.depth[1:], LastBits()(images).depth[1:])
    assert torch.equal(again.depth, mixed.depth)
    assert torch.equal(again.valid, mixed.valid)


def test_the_folder_is_bounded_and_damaged_files_are_made_anew(cached, toys, tmp_path):
    images = toys.batch(4).images / 255
    teacher = cached(max_bytes=2.5 * images[0, 0].nbytes)
    answer = teacher(images)
    assert len(files(tmp_path)) == 2
    assert torch.equal(answer.depth, teacher(images).depth)
    damaged = files(tmp_path)[0]
    damaged.write_bytes(b"torn")
    roomy = cached()
    assert torch.equal(roomy(images).depth, answer.depth)
    assert roomy.hits == 0
    assert damaged.stat().st_size > 4
    roomy(images)
    assert roomy.hits == 4


def test_which_contexts_are_fixed():
    assert are_fixed(Whole(view_size=56))
    assert not are_fixed(Shared(view_size=56, crop_min=60))
    assert not are_fixed(LocalGlobal(view_size=56, crop_min=60, patch_size=56, overlap=8, n=2))


RUN = """
name: cached
batch_size: 4
channels_last: false
data: {workers: 0, unlabelled: [{name: procedural, options: {count: 4, size: 32}}]}
contexts: {name: whole, options: {view_size: 28}}
teachers: [{name: dav2/tiny, options: {weights: none}}]
student: {name: dav2/tiny, options: {native_size: 28}}
losses: {anchor: {warmup_maps: 4}, local_global: {weight: 0}}
flip: 0
iterations: 3
report: false
"""


def test_a_run_with_a_cache_ends_with_the_same_weights(tmp_path, console):
    models = []
    for name, override in (
        ("plain", []),
        ("first", ["teacher_cache.folder=FOLDER"]),
        ("second", ["teacher_cache.folder=FOLDER"]),
    ):
        overrides = [text.replace("FOLDER", str(tmp_path / "cache")) for text in override]
        result = train(parse_run(RUN, [f"output={tmp_path / name}", *overrides]), console=console)
        models.append(load_model(result.folder).state_dict())
    assert len(files(tmp_path)) == 4
    for other in models[1:]:
        assert all(torch.equal(models[0][name], other[name]) for name in other)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["contexts={name: shared, options: {view_size: 28, crop_min: 30}}"], "another part of the image every time"),
        (["losses.feature.weight=1"], "not the features"),
    ],
)
def test_a_useless_cache_is_refused(tmp_path, console, overrides, message):
    with pytest.raises(StageError, match=message):
        train(parse_run(RUN, [f"output={tmp_path}", "teacher_cache={}", *overrides]), console=console)


def test_an_answer_belongs_to_its_camera(tmp_path):
    from dadkit.interfaces import Estimate, ModelSpec, Space, camera_from_fov

    class Canonical(Teacher):
        def __init__(self) -> None:
            super().__init__()
            self.spec = ModelSpec("canonical", space=Space.METRIC, takes_camera=True, canonical_focal=10.0)

        def estimate(self, x):
            return Estimate(x.new_ones(len(x), 1, *x.shape[-2:]), sky=x[:, :1] > 0)

    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    teacher = CachedTeacher(Canonical(), {}, tmp_path, 1e6)
    narrow, wide = (camera_from_fov(fov, (8, 8)).expand(2, 3, 3) for fov in (40, 80))
    first = label(teacher, images, None, Space.METRIC, narrow)
    other = label(teacher, images, None, Space.METRIC, wide)
    assert (teacher.hits, teacher.misses) == (0, 4)
    again = label(teacher, images, None, Space.METRIC, narrow)
    assert (teacher.hits, teacher.misses) == (2, 4)
    assert torch.equal(again.region, first.region)
    assert torch.equal(again.region_mask, first.region_mask)
    assert not torch.equal(other.region, first.region)
    with pytest.raises(ValueError, match="metres only with a camera"):
        label(teacher, images, None, Space.METRIC)
