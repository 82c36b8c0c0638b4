"""Going on after an interruption; several processes; failures."""

import json
import math

import pytest
import torch

from dadkit.config.components import build
from dadkit.config.schema import DatasetConfig, EvaluationConfig
from dadkit.data.ordinal import OrdinalSample
from dadkit.data.sample import Sample
from dadkit.errors import DadkitError, DataError, SampleError
from dadkit.evaluation import EvaluationPlan, evaluate, evaluate_run, load_protocol
from dadkit.evaluation.cache import Row, RowCache, cache_key, fingerprint
from dadkit.evaluation.run import Job, run_workers
from dadkit.interfaces import DepthModel, ModelSpec
from dadkit.loading import load_model
from dadkit.spaces import Space


class Planes:
    """Seven tilted planes; number 2 cannot be read. Counts what is read."""

    def __init__(self, stop_at=None):
        self.reads, self.stop_at = [], stop_at

    def __len__(self):
        return 7

    def __getitem__(self, index):
        self.reads.append(index)
        if index == self.stop_at:
            raise KeyboardInterrupt
        if index == 2:
            raise SampleError("2: truncated")
        depth = (torch.linspace(1, 3, 8).view(1, 8, 1) + torch.linspace(0, index, 10)).contiguous()
        return Sample((depth * 25).expand(3, -1, -1).to(torch.uint8), str(index), depth, None, Space.METRIC)


class Brightness(DepthModel):
    def __init__(self, gain=1.0):
        super().__init__()
        self.spec = ModelSpec(name="brightness", space=Space.DEPTH, mean=(0, 0, 0), std=(1, 1, 1))
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def estimate(self, x):
        return x.mean(1, keepdim=True).square() * self.gain, {}


PROTOCOL = load_protocol("affine-depth")


def cached(tmp_path, model, part=0):
    return RowCache(tmp_path, cache_key(fingerprint(model), PROTOCOL, "planes", {}), part)


def test_an_interrupted_evaluation_goes_on_where_it_was(tmp_path):
    whole = evaluate(Brightness(), Planes(), PROTOCOL, name="m", batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Brightness(), Planes(stop_at=5), PROTOCOL, name="m", batch_size=2, cache=cached(tmp_path, Brightness()))
    again, done = Planes(), []
    resumed = evaluate(
        Brightness(), again, PROTOCOL, name="m", batch_size=2, cache=cached(tmp_path, Brightness()), progress=done.append
    )
    assert again.reads[0] >= 4
    assert resumed == whole
    assert done[-1] == 7
    third = Planes()
    assert evaluate(Brightness(), third, PROTOCOL, name="m", cache=cached(tmp_path, Brightness())) == whole
    assert third.reads == []


def test_a_line_cut_off_by_a_kill_is_measured_again(tmp_path):
    cache = RowCache(tmp_path, "k")
    rows = [Row(i, str(i), 4, {"abs_rel": i / 10}, "scored") for i in range(3)]
    cache.append(rows)
    path = tmp_path / "k.0.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert cache.read() == rows[:2]
    cache.append(rows[2:])
    assert cache.read() == rows
    RowCache(tmp_path, "k", part=1).append([Row(9, "9", 0, {}, "skipped")])
    assert [row.index for row in cache.read()] == [0, 1, 2, 9]
    cache.clear()
    assert cache.read() == []


def test_fingerprints_tell_weights_settings_and_protocols_apart():
    first = fingerprint(Brightness())
    assert first == fingerprint(Brightness())
    assert first != fingerprint(Brightness(gain=2.0))
    other = Brightness()
    other.mode = "fast"
    assert first != fingerprint(other)
    keys = {cache_key(first, load_protocol(name), "d", {}) for name in ("affine-depth", "marigold", "rld")}
    keys |= {cache_key(first, PROTOCOL, "e", {}), cache_key(first, PROTOCOL, "d", {"split": "test"})}
    assert len(keys) == 5


def test_answers_that_are_not_finite_are_counted_and_in_no_mean():
    class Sometimes(Brightness):
        def estimate(self, x):
            depth = x.mean(1, keepdim=True)
            return torch.where(x.amax((1, 2, 3), keepdim=True) > 0.7, math.nan, depth), {}

    found = evaluate(Sometimes(), Planes(), PROTOCOL, name="m", batch_size=3)
    assert found.failed == ["5", "6"]
    assert [i.key for i in found.images] == ["0", "1", "3", "4"]
    assert math.isfinite(found.mean["abs_rel"])

    class Never(Brightness):
        def estimate(self, x):
            return x.mean(1, keepdim=True) * math.nan, {}

    with pytest.raises(DataError, match="not finite on any of 6 images"):
        evaluate(Never(), Planes(), PROTOCOL, name="m")


def test_medians_stand_beside_means():
    found = evaluate(Brightness(), Planes(), PROTOCOL, name="m")
    values = sorted(i.metrics["abs_rel"] for i in found.images)
    assert found.median["abs_rel"] == pytest.approx((values[2] + values[3]) / 2)


def test_ordinal_protocols():
    class Pairs:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            image = torch.zeros(3, 8, 8, dtype=torch.uint8)
            image[:, :, 4:] = 200
            points = torch.tensor([[[0.0, 6.0], [0.0, 1.0]], [[2.0, 0.0], [2.0, 7.0]]])
            return OrdinalSample(image, str(index), points=points, nearer=torch.tensor([1, 0 if index else 1]))

    found = evaluate(Brightness(), Pairs(), load_protocol("da-2k"), name="m")
    assert [i.metrics for i in found.images] == [{"pair_accuracy": 0.5}, {"pair_accuracy": 1.0}]
    assert found.images[0].valid_pixels == 2
    with pytest.raises(DataError, match="needs annotated pairs of points"):
        evaluate(Brightness(), Planes(), load_protocol("diw"), name="m")


def _job(tmp_path, **fields):
    options = {"split": "test", "count": 5, "size": 64}
    plan = EvaluationPlan(load_protocol("affine-disparity"), "procedural", options, batch_size=2)
    base = {"model": "topformer/tiny", "plan": plan, "cache": tmp_path / "cache", "key": "k", "fingerprint": "?"}
    return plan, Job(**{**base, "processes": 2, **fields})


@pytest.mark.slow
def test_several_processes_answer_as_one(tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "w"
    # A run's result, so that every process loads the same weights.
    from safetensors.torch import save_file

    from dadkit.loading import ModelCard, load_student

    model = load_student("topformer/tiny")
    weights.mkdir()
    card = ModelCard("topformer/tiny", {}, "disparity", ["none"], {}, "r", "s", 1, "h")
    save_file(model.state_dict(), weights / "model.safetensors", metadata=card.to_metadata())
    plan, job = _job(tmp_path, model=str(weights))
    models = {"m": load_model(weights)}
    done = []

    def work(name, own, key):
        run_workers(Job(**{**vars(job), "fingerprint": own, "key": key}), progress=done.append)

    (one,) = evaluate_run(plan, tmp_path / "one", models)
    (two,) = evaluate_run(plan, tmp_path / "two", models, cache=tmp_path / "cache", workers=work)
    assert done[-1] == 5
    assert len(list((tmp_path / "cache").glob("*.jsonl"))) == 2
    assert [i.key for i in two.images] == [i.key for i in one.images]
    assert two.mean == pytest.approx(one.mean, rel=1e-4)
    summary = json.loads((tmp_path / "two" / "evaluation.json").read_text())
    assert summary["models"][0]["interval"]["abs_rel"]["low"] <= summary["models"][0]["mean"]["abs_rel"]
    with pytest.raises(DadkitError, match="did you mean"):
        run_workers(_job(tmp_path, model="topformer/tyny", processes=1)[1])
    with pytest.raises(DadkitError, match="another model each time it is loaded"):
        run_workers(_job(tmp_path, processes=1)[1])


def test_options_of_the_protocol_reach_the_dataset_and_the_users_win(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{summary: mine, space: metric, options: {count: 3, size: 16}}")
    plan = EvaluationPlan.resolve(
        EvaluationConfig(data=DatasetConfig(name="procedural", options={"count": 2}), protocol=str(path), limit=1)
    )
    dataset = plan.open()
    assert (len(dataset), plan.options, plan.limit) == (2, {"count": 2, "size": 16}, 1)
    assert dataset[0].image.shape == build("dataset", "procedural", {"size": 16})[0].image.shape


def test_pictures_read_only_the_samples_that_they_show():
    from dadkit.evaluation.strips import find_samples

    plain = Planes()
    assert set(find_samples(plain, {"1", "3"})) == {"1", "3"}
    assert plain.reads == [0, 1, 2, 3]
    keyed = Planes()
    keyed.key = str
    assert set(find_samples(keyed, {"1", "6"})) == {"1", "6"}
    assert keyed.reads == [1, 6]
