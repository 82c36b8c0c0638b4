"""Whole runs with real components: stages, resuming, refusing, the files that are left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import dadkit.training.run as run_module
from dadkit.config import load_run, parse_run
from dadkit.errors import DadkitError
from dadkit.loading import LoadError, load_model, load_student, read_card
from dadkit.ops import fused
from dadkit.training.checkpoint import file_sha256
from dadkit.training.folder import RunLockedError, lock
from dadkit.training.metrics import read_metrics
from dadkit.training.record import ConfigChangedError
from dadkit.training.run import train
from dadkit.training.soundness import StageError

SMALL = """
name: small
batch_size: 4
log_every: 2
sample_every: 100
checkpoint_every: 3
channels_last: false
data: {workers: 0, unlabelled: [{name: procedural, options: {count: 12, size: [40, 48]}}]}
contexts: {name: local-global, options: {view_size: 32, crop_min: 36, patch_size: 28, overlap: 4, n: 2}}
teachers: [{name: dav2/tiny, options: {weights: none}}]
student: {name: topformer/tiny, options: {drop_path: 0.3, native_size: 32}}
losses: {anchor: {warmup_maps: 4}}
optim: {lr: 1.0e-3, warmup: 2, accumulate: 2}
iterations: 8
report: false
"""

TWO_STAGES = """
name: two
batch_size: 4
log_every: 3
sample_every: 100
channels_last: false
data: {workers: 0, labelled: [{name: procedural, options: {count: 12, size: [40, 48]}}]}
contexts: {name: shared, options: {view_size: 28, crop_min: 30}}
student: {name: dav2/tiny, options: {native_size: 28}}
losses: {anchor: {warmup_maps: 4}, local_global: {weight: 0}}
optim: {lr: 1.0e-3}
stages:
  - {name: teacher, iterations: 4}
  - name: student
    student: {name: topformer/tiny, options: {native_size: 32}}
    teachers: [{stage: teacher, probability: 7}, {name: dav2/tiny, options: {weights: none}, probability: 3}]
    data: {labelled: [], unlabelled: [{name: procedural, options: {count: 12, size: [40, 48]}}]}
    iterations: 3
  - {name: more, student: {stage: student}, iterations: 2, ema: 0.9}
evaluation:
  data: {name: procedural, options: {count: 4, size: [40, 48], split: test}}
  trivial: true
  also:
    - {data: {name: procedural, options: {count: 2, size: [40, 48], split: test}}, protocol: robust-disparity}
    - {data: {name: procedural, options: {count: 2, size: [40, 48], split: test}}, limit: 1}
"""


@pytest.fixture
def small(tmp_path, console):
    """Trains the small run in ``tmp_path/AT`` with overrides; answers with its folder."""

    def go(*overrides, at="runs", fresh=False):
        return train(parse_run(SMALL, [f"output={tmp_path / at}", *overrides]), fresh=fresh, console=console).folder

    return go


@pytest.fixture
def interrupted(small, monkeypatch):
    """``interrupted(*overrides)``: such a run that is stopped after its last iteration, before the result is written."""

    def stop(*_):
        raise KeyboardInterrupt

    def go(*overrides: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "write_result", stop)
            with pytest.raises(KeyboardInterrupt):
                small(*overrides)

    return go


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory):
    """The finished two-stage run, and its result."""
    from rich.console import Console

    output = tmp_path_factory.mktemp("two")
    return train(parse_run(TWO_STAGES, [f"output={output}"]), console=Console(quiet=True))


def result(folder, stage="main"):
    return folder / "stages" / stage / "model.safetensors"


def in_subprocess(config: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "dadkit", "train", str(config)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_with_minus_nine_and_run_again_gives_the_same_file(small, tmp_path):
    whole = small("iterations=24", at="whole")
    config = tmp_path / "small.yaml"
    # Two loader processes, which outlive the kill by some seconds and must neither hold the lock nor change anything.
    text = SMALL.replace("iterations: 8", "iterations: 24").replace("workers: 0", "workers: 2")
    config.write_text(text + f"output: {tmp_path / 'killed'}\n")
    process = in_subprocess(config)
    folder = tmp_path / "killed" / "small"
    wait_for(folder / "stages/main/checkpoints/step-00000003", process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert not result(folder).exists()
    small("iterations=24", at="killed")
    assert file_sha256(result(whole)) == file_sha256(result(folder))
    steps = [line["step"] for line in read_metrics(folder / "metrics.jsonl")]
    assert steps == list(range(2, 25, 2))


def test_sigterm_saves_exits_with_130_and_the_same_command_goes_on(tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(SMALL.replace("iterations: 8", "iterations: 4000") + f"output: {tmp_path}\n")
    process = in_subprocess(config)
    checkpoints = tmp_path / "small/stages/main/checkpoints"
    wait_for(checkpoints / "step-00000003", process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "SIGTERM in iteration" in output
    assert "Traceback" not in output
    newest = max(int(path.name.split("-")[1]) for path in checkpoints.glob("step-*"))
    assert f"SIGTERM in iteration {newest} of stage 'main'" in output


def test_stages_build_on_each_other(two_stages):
    folder = two_stages.folder
    assert [stage.name for stage in two_stages.stages] == ["teacher", "student", "more"]
    drawn = {name for line in read_metrics(folder / "metrics.jsonl") for name in line if name.startswith("teacher/")}
    assert drawn <= {"teacher/stage:teacher", "teacher/dav2/tiny"}
    assert drawn
    cards = {name: read_card(result(folder, name)) for name in ("teacher", "student", "more")}
    assert cards["teacher"].component == "dav2/tiny"
    assert cards["more"].component == "topformer/tiny"
    assert cards["more"].options["native_size"] == 32
    assert cards["more"].licenses == ["Apache-2.0"]
    assert cards["more"].stage == "more"
    assert cards["more"].versions["dadkit"]
    # The third stage began with the second one's weights and moved them a little.
    before, after = load_model(folder / "stages/student"), load_model(folder / "stages/more")
    distance = sum((a - b).norm() for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert 0 < distance < 0.2 * sum(p.norm() for p in before.parameters())


def test_what_a_run_leaves(two_stages):
    folder = two_stages.folder
    metadata = json.loads((folder / "run.json").read_text())
    assert {c["name"] for c in metadata["components"]} >= {"dav2/tiny", "topformer/tiny", "procedural", "hybrid", "shared"}
    assert all(component["distribution"] and component["version"] for component in metadata["components"])
    assert metadata["licenses"] == ["Apache-2.0"]
    assert [stage["name"] for stage in metadata["stages"]] == ["teacher", "student", "more"]
    assert metadata["stages"][0]["sha256"] == file_sha256(result(folder, "teacher"))
    assert metadata["versions"]["torch"] == torch.__version__
    assert (folder / "report.html").stat().st_size > 10_000
    assert list((folder / "tensorboard" / "student").glob("events*"))
    assert list((folder / "stages" / "student" / "samples").glob("step-*.jpg"))
    rows = [evaluation.model for evaluation in two_stages.evaluations]
    assert rows[0] == "stage teacher"
    assert rows[1:4] == ["stage student", "student", "untrained student"]


def test_further_sets_have_tables_of_their_own(two_stages):
    first, second = two_stages.further["procedural"], two_stages.further["procedural-2"]
    assert {row.model for row in second} == {row.model for row in two_stages.evaluations}
    assert {row.protocol for row in first} == {"robust-disparity"}
    assert [len(row.images) for row in second] == [1] * len(second)
    assert first[0].mean["abs_rel"] != two_stages.evaluations[0].mean["abs_rel"]
    for name in ("procedural", "procedural-2"):
        assert (two_stages.folder / "evaluations" / name / "evaluation.json").is_file()
    assert (two_stages.folder / "report.html").read_text().count("<h2>Evaluation on procedural") == 3


def test_finished_stages_are_not_trained_again(two_stages, console):
    files = sorted(two_stages.folder.glob("stages/*/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in files]
    again = train(load_run(two_stages.folder / "config.yaml"), console=console)
    assert [path.stat().st_mtime_ns for path in files] == before
    assert [stage.sha256 for stage in again.stages] == [stage.sha256 for stage in two_stages.stages]
    assert [e.mean for e in again.evaluations] == [e.mean for e in two_stages.evaluations]
    assert console.file.getvalue().count("finished before") == 3


def test_the_resolved_configuration_trains_to_the_same_weights(small, tmp_path, console):
    first = small()
    again = train(load_run(first / "config.yaml", [f"output={tmp_path / 'again'}"]), console=console).folder
    assert file_sha256(result(first)) == file_sha256(result(again))
    a, b = ((folder / "config.yaml").read_text() for folder in (first, again))
    assert a.replace(str(tmp_path / "runs"), str(tmp_path / "again")) == b


def test_a_changed_configuration_is_refused_and_says_what_changed(small, console):
    folder = small()
    config = (folder / "config.yaml").read_text()
    with pytest.raises(ConfigChangedError) as refused:
        small("optim.lr=2e-3", "seed=3")
    message = str(refused.value)
    assert "seed: 0 -> 3" in message
    assert "stage.optim.lr: 0.001 -> 0.002" in message
    assert "--fresh" in message
    assert refused.value.exit_code == 2
    assert (folder / "config.yaml").read_text() == config
    small("log_every=1", "data.workers=1", "keep_last=1")  # what the weights do not depend on may change
    assert "finished before" in console.file.getvalue()


def test_a_run_of_a_version_that_had_another_option_goes_on(small, console):
    begun = small() / "stages/main/stage.json"
    record = json.loads(begun.read_text())
    record["trained_with"]["stage"]["losses"]["shared"]["normalizer"]["options"]["detach_scale"] = False
    begun.write_text(json.dumps(record))
    small()
    assert "finished before" in console.file.getvalue()


def test_a_runs_backend_is_that_of_everything_it_computes(small, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a fused operator was called")

    for name in ("gradient_matching_loss", "hybrid_norm_loss", "local_global_loss", "median_mad", "normalize"):
        monkeypatch.setattr(fused, name, forbidden)
    small("backend=reference", "losses.anchor.weight=0.1", "losses.extra=[{name: ssi, weight: 1}]")


@pytest.fixture
def teacher_file(tmp_path):
    """``teacher_file(seed)`` writes the weights of a tiny teacher to the same file again; answers with its path."""

    def write(seed):
        torch.manual_seed(seed)
        save_file(load_student("dav2/tiny").state_dict(), path)
        return path

    path = tmp_path / "teacher.safetensors"
    return write


EVALUATED = "evaluation={data: {name: procedural, options: {count: 2, size: [40, 48], split: test}}}"


def test_a_weight_file_that_was_trained_again_is_noticed(small, teacher_file, console):
    path = teacher_file(1)
    overrides = [f"teachers=[{{name: dav2/tiny, options: {{weights: {path}}}}}]", "iterations=3", EVALUATED]
    folder = small(*overrides)
    begun = folder / "stages/main/stage.json"
    noted = json.loads(begun.read_text())["weights"]
    assert noted[str(path)]["sha256"] == file_sha256(path)
    assert json.loads((folder / "run.json").read_text())["stages"][0]["weights"] == [str(path)]
    assert f"main: weights from {path}" in console.file.getvalue()
    os.utime(path)  # the same content under another date
    small(*overrides)
    assert "finished before" in console.file.getvalue()
    assert json.loads(begun.read_text())["weights"][str(path)]["mtime_ns"] == path.stat().st_mtime_ns
    before = file_sha256(path)
    teacher_file(2)
    with pytest.raises(ConfigChangedError) as refused:
        small(*overrides)
    message = str(refused.value)
    assert f"the weights in {path}: {before[:12]}… of " in message
    assert f" -> {file_sha256(path)[:12]}… of " in message
    assert "--fresh" in message
    old = file_sha256(result(folder))
    small(*overrides, fresh=True)
    assert file_sha256(result(folder)) != old


def test_a_weight_file_that_is_gone_is_no_obstacle_to_a_finished_run(small, teacher_file, console):
    path = teacher_file(1)
    overrides = [f"teachers=[{{name: dav2/tiny, options: {{weights: {path}}}}}]", "iterations=1", EVALUATED]
    folder = small(*overrides)
    rows = (folder / "evaluation.json").read_text()
    path.unlink()
    small(*overrides)
    text = console.file.getvalue()
    assert "finished before" in text
    assert "teacher is not evaluated: " in text
    assert f"no weight file at {path}" in text
    assert (folder / "evaluation.json").read_text() == rows


def test_a_weight_file_that_changes_before_the_last_iteration_is_noticed(small, interrupted, teacher_file):
    path = teacher_file(1)
    overrides = [f"teachers=[{{name: dav2/tiny, options: {{weights: {path}}}}}]", "iterations=3"]
    interrupted(*overrides)
    teacher_file(2)
    with pytest.raises(ConfigChangedError, match="the weights in"):
        small(*overrides)


def test_a_record_of_an_earlier_version_is_taken_as_it_is(small, teacher_file, console):
    path = teacher_file(1)
    overrides = [f"teachers=[{{name: dav2/tiny, options: {{weights: {path}}}}}]", "iterations=1"]
    begun = small(*overrides) / "stages/main/stage.json"
    record = json.loads(begun.read_text())
    del record["weights"]
    begun.write_text(json.dumps(record))
    small(*overrides)
    assert "finished before" in console.file.getvalue()


def test_fresh_begins_anew_and_keeps_other_peoples_files(small):
    folder = small()
    before = file_sha256(result(folder))
    (folder / "notes.txt").write_text("mine")
    small("optim.lr=2e-3", fresh=True)
    assert file_sha256(result(folder)) != before
    assert (folder / "notes.txt").read_text() == "mine"
    assert [line["step"] for line in read_metrics(folder / "metrics.jsonl")] == [2, 4, 6, 8]


def test_a_stage_that_never_came_to_a_checkpoint_may_be_mended(small):
    with pytest.raises(StageError, match="'deep'"):
        small("losses.feature.weight=1", "losses.feature.student_tap=deep")
    small("iterations=1")


def test_a_damaged_result_is_made_again_from_the_last_checkpoint(small):
    folder = small()
    before = file_sha256(result(folder))
    data = bytearray(result(folder).read_bytes())
    data[-1] ^= 1
    result(folder).write_bytes(data)
    small()
    assert file_sha256(result(folder)) == before


def test_two_processes_do_not_train_into_one_folder(small, tmp_path):
    folder = tmp_path / "runs" / "small"
    with lock(folder), pytest.raises(RunLockedError, match=f"process {os.getpid()}, this one"):
        small()
    code = (
        "import sys, time, pathlib, dadkit.training.folder as module\n"
        "with module.lock(pathlib.Path(sys.argv[1])):\n    print(1, flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline()
        with pytest.raises(RunLockedError, match=f"process {other.pid} on "):
            small()
        other.kill()
    small("iterations=1")


def test_a_folder_that_cannot_be_written_is_a_clear_error(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DadkitError, match="output="):
        small(at="file")


def test_photos_of_which_some_are_corrupt_are_counted(small, tmp_path, console):
    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for index in range(100):
        path = photos / f"{index:03d}.jpg"
        Image.fromarray(random.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(path)
        if index % 10 == 3:
            path.write_bytes(path.read_bytes()[:500])
    folder = small(f"data.root={photos}", "data.unlabelled=[]", "iterations=6", "batch_size=20")
    (stage,) = json.loads((folder / "run.json").read_text())["stages"]
    assert stage["unreadable"] == 10
    assert len(stage["examples"]) == 5
    assert all(name.endswith("3") and "photos" in reason for name, reason in stage["examples"].items())
    assert list(read_metrics(folder / "metrics.jsonl"))[-1]["unreadable"] == 10
    assert "10 samples could not be read" in console.file.getvalue()


def test_a_changed_folder_of_images_is_noticed(small, interrupted, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(6):
        Image.new("RGB", (80, 64), (index, 0, 0)).save(photos / f"{index}.png")
        image = Image.effect_noise((80, 64), 60 + index)
        image.convert("RGB").save(photos / f"{index}.png")
    overrides = [f"data.root={photos}", "data.unlabelled=[]"]
    interrupted(*overrides)
    (photos / "0.png").unlink()
    with pytest.raises(Exception, match="6 samples when the run began, 5 now"):
        small(*overrides)


def test_epochs_are_passes_over_the_data(small):
    folder = small("iterations=null", "epochs=1.5")
    (stage,) = json.loads((folder / "run.json").read_text())["stages"]
    assert stage["iterations"] == 5  # 1.5 times 12 scenes in batches of 4, rounded up


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ("{data: {name: procedural, options: {split: test}}, protocol: nonsense}", "unknown protocol 'nonsense'"),
        ("{data: {name: procedural, options: {split: test}}, protocol: metric}", "holds no metres"),
        ("{data: {name: images, options: {root: nowhere}}}", "nowhere"),
    ],
)
def test_an_evaluation_that_cannot_work_is_refused_before_training(small, tmp_path, evaluation, message):
    with pytest.raises(DadkitError, match=message):
        small(f"evaluation={evaluation}")
    assert not list((tmp_path / "runs").glob("small/stages/main/checkpoints/*"))


def test_validation_needs_an_evaluation(tmp_path, console):
    run = parse_run(SMALL, [f"output={tmp_path}"])
    (stage,) = run.stages
    run = run.model_copy(update={"stages": [stage.model_copy(update={"validate_every": 2})]})
    with pytest.raises(StageError, match="validate_every"):
        train(run, console=console)


def test_validation_needs_a_protocol_with_the_deciding_metric(small, tmp_path):
    protocol = tmp_path / "mine.yaml"
    protocol.write_text("{summary: mine, space: disparity, alignment: scale-shift, max_depth: 80.0, metrics: [delta1]}")
    with pytest.raises(StageError, match="protocol 'mine' measures neither"):
        small(
            f"evaluation={{data: {{name: procedural, options: {{split: test}}}}, protocol: '{protocol}'}}", "validate_every=2"
        )


def test_validation_picks_by_abs_rel(small):
    evaluation = "evaluation={data: {name: procedural, options: {count: 2, size: [40, 48], split: test}}}"
    folder = small("validate_every=2", evaluation, "iterations=4")
    validated = {line["step"]: line["validation/abs_rel"] for line in read_metrics(folder / "metrics.jsonl") if len(line) == 3}
    assert validated.keys() == {2, 4}
    assert json.loads((folder / "run.json").read_text())["stages"][0]["step"] == min(validated, key=validated.get)


def test_validation_measures_what_the_evaluation_at_the_end_measures(small, tmp_path):
    protocol = tmp_path / "mine.yaml"  # its options are not the reader's defaults
    protocol.write_text("{summary: mine, space: disparity, alignment: scale-shift, options: {split: test, size: [40, 48]}}")
    evaluation = f"evaluation={{data: {{name: procedural}}, protocol: '{protocol}', limit: 2}}"
    folder = small("validate_every=2", evaluation, "iterations=2")
    (validated,) = [line["validation/abs_rel"] for line in read_metrics(folder / "metrics.jsonl") if len(line) == 3]
    models = {row["model"]: row["mean"] for row in json.loads((folder / "evaluation.json").read_text())["models"]}
    assert models["student"]["abs_rel"] == pytest.approx(validated, rel=1e-9)


def test_bf16_and_features_through_an_adapter(small):
    folder = small("precision=bf16", "losses.feature.weight=1", "iterations=2", "deterministic=true")
    (line,) = read_metrics(folder / "metrics.jsonl")
    assert line["loss/feature"] > 0
    assert line["loss/total"] < 100
    assert not [name for name in load_model(folder).state_dict() if "adapter" in name]


@pytest.mark.parametrize("where", [".", "stages/more", "stages/more/model.safetensors"])
def test_results_are_read_from_anywhere(two_stages, where):
    model = load_model(two_stages.folder / where)
    assert not model.training
    assert model.spec.name == "topformer-tiny"
    assert model.spec.license == "Apache-2.0"
    prediction = model.predict(torch.rand(3, 40, 48))
    assert prediction.depth.shape == (1, 1, 40, 48)


def test_reading_what_is_no_result(two_stages, small, tmp_path, monkeypatch):
    with pytest.raises(LoadError, match="no file or folder 'nowhere/at-all'"):
        load_model("nowhere/at-all")
    with pytest.raises(LoadError, match="neither a run folder"):
        load_model(tmp_path)
    with pytest.raises(LoadError, match="leave out native_size"):
        load_model(two_stages.folder, native_size=64)
    with pytest.raises(LoadError, match="was not written by dadkit as a stage's result"):
        load_model(next(two_stages.folder.glob("stages/*/checkpoints/step-*/model.safetensors")))
    torn = tmp_path / "model.safetensors"
    torn.write_bytes(result(two_stages.folder, "more").read_bytes()[:1000])
    with pytest.raises(LoadError, match="cannot read"):
        load_model(torn)
    monkeypatch.setattr(run_module, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        small("iterations=1")
    with pytest.raises(LoadError, match="no stage of the run"):
        load_model(tmp_path / "runs" / "small")


def test_registered_models_are_loaded_by_name():
    teacher = load_model("dav2/tiny", weights="none")
    assert not teacher.training
    student = load_model("topformer/tiny", native_size=64)
    assert not student.training
    assert student.spec.native.size == 64
