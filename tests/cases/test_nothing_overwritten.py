"""Nothing of the user's is overwritten, nothing of dadkit's is read as input, nothing is computed twice."""

import shutil

import numpy as np
import pytest
from PIL import Image

from dadkit.data import Images, SampleError
from dadkit.data.images import decode
from dadkit.data.pairs import DepthPairs
from dadkit.errors import DadkitError
from dadkit.results import LIST, claim, read_results

from .conftest import MODEL, contents, picture


def test_01_results_beside_the_photographs_would_replace_them(photos, dadkit):
    before = contents(photos)
    for extra in ([], ["--overwrite"]):
        answer = dadkit("predict", photos, "-m", MODEL, "-o", photos, "-f", "png16", *extra)
        assert answer.code == 2
        assert "p0.png is an input, and a result would be written over it (3 such files)" in answer.err
    assert contents(photos) == before
    assert dadkit("predict", photos, "-m", MODEL, "-o", photos, "-f", "npy").code == 0  # other names beside them are fine
    assert {name: contents(photos)[name] for name in before} == before


def test_01_a_linked_output_folder_is_the_input_folder(photos, tmp_path, dadkit):
    (tmp_path / "link").symlink_to(photos)
    answer = dadkit("predict", photos, "-m", MODEL, "-o", tmp_path / "link", "-f", "png16")
    assert answer.code == 2
    assert "is an input" in answer.err


def test_40_a_file_that_is_no_input_is_not_replaced_unasked(photos, tmp_path, dadkit):
    out = tmp_path / "out"
    out.mkdir()
    Image.fromarray(picture(8, 8)).save(out / "p1.png")
    before = contents(out)
    answer = dadkit("predict", photos, "-m", MODEL, "-o", out, "-f", "png16")
    assert answer.code == 2
    assert "p1.png exists, and dadkit did not write it" in answer.err
    assert contents(out) == before
    assert dadkit("predict", photos, "-m", MODEL, "-o", out, "-f", "png16", "--overwrite").code == 0
    answer = dadkit("predict", photos / "p0.png", "-m", MODEL, "-o", tmp_path / "depth.png")
    assert answer.code == 2
    assert f"--output {tmp_path / 'depth'}" in answer.err
    assert not (tmp_path / "depth.png").exists()


def test_02_and_41_the_first_runs_results_are_not_the_second_runs_images(photos, tmp_path, dadkit):
    for _ in range(2):
        answer = dadkit("predict", photos, "-m", MODEL, "-o", photos / "depth")
        assert answer.code == 0
    assert len(list(photos.rglob("*.npy"))) == 3
    assert "left out: 12 results of dadkit" in answer.err
    assert "3 finished before by the same model" in answer.err
    # Nor are they a training set's images, listed or copied elsewhere without the list that names them.
    assert len(Images(str(photos), min_size=1)) == 3
    shutil.copy(photos / "depth" / "p0.side.png", tmp_path / "moved.png")
    with pytest.raises(SampleError, match="a depth map that dadkit wrote"):
        decode(tmp_path / "moved.png")
    assert "left out: 1 results of dadkit" in dadkit("predict", tmp_path / "moved.png", "-m", MODEL).err


def test_42_results_can_still_be_labels(photos, tmp_path, dadkit):
    root = tmp_path / "pairs"
    shutil.copytree(photos, root / "images")
    assert dadkit("predict", root / "images", "-m", MODEL, "-o", root / "depth", "-f", "npy").code == 0
    assert len(DepthPairs(str(root), encoding="npy", space="disparity")) == 3


def test_43_and_44_finished_results_are_not_computed_again(photos, tmp_path, dadkit):
    out = tmp_path / "out"
    command = ["predict", photos, "-m", MODEL, "-o", out, "-f", "npy"]
    assert dadkit(*command).code == 0
    marker = np.zeros((2, 2), np.float32)
    for name in ("p0", "p1", "p2"):
        np.save(out / f"{name}.npy", marker)  # what is computed again is seen
    Image.fromarray(picture(48, 64, 9)).save(photos / "p1.png")  # a changed photograph is predicted again
    (out / "p2.npy").unlink()  # and a result that is gone
    answer = dadkit(*command)
    assert "1 finished before" in answer.err
    assert [np.load(out / f"p{i}.npy").shape for i in range(3)] == [(2, 2), (48, 64), (48, 64)]
    answer = dadkit(*command[:-1], "png16")
    assert "finished before" not in answer.err
    assert "wrote 3 files" in answer.err
    other = ["predict", photos, "-m", MODEL.replace("weights=none", "weights=none,native_size=96"), "-o", out, "-f", "npy"]
    answer = dadkit(*other)
    assert "3 with results of another model or other settings, which are replaced" in answer.err
    assert np.load(out / "p0.npy").shape == (48, 64)
    assert "wrote 0 files" in dadkit(*other, "--resume").err
    assert "wrote 3 files" in dadkit(*other, "--no-resume").err
    (out / "p0.npy").write_bytes(b"")  # as a full disk or a broken copy leaves it
    assert "wrote 1 file " in dadkit(*other, photos / "p0.png").err


def test_43_after_a_kill_only_the_unfinished_is_computed(photos, tmp_path, dadkit, monkeypatch):
    import dadkit.prediction.predict as module

    out, write, written = tmp_path / "out", module.write_one, []

    def dying(place, *arguments, **options):
        written.append(place)
        if len(written) == 2:
            raise KeyboardInterrupt  # in the middle of the second image
        return write(place, *arguments, **options)

    monkeypatch.setattr(module, "write_one", dying)
    assert dadkit("predict", photos, "-m", MODEL, "-o", out, "-f", "npy").code != 0
    with (out / LIST).open("a") as handle:
        handle.write('{"files": ["half a li')
    monkeypatch.setattr(module, "write_one", write)
    answer = dadkit("predict", photos, "-m", MODEL, "-o", out, "-f", "npy")
    assert answer.code == 0
    assert sorted(p.name for p in out.glob("*.npy")) == ["p0.npy", "p1.npy", "p2.npy"]
    assert not list(out.glob(".*.tmp*"))


def test_45_and_46_runs_and_evaluations_are_no_images_and_replace_nothing(photos, dadkit, tmp_path):
    run = photos / "runs" / "r"
    claim(run, ["stages", "config.yaml"])
    (run / "stages").mkdir()
    shutil.copy(photos / "p0.png", run / "stages" / "sheet.png")
    assert len(Images(str(photos), min_size=1)) == 3
    claim(run, ["stages", "config.yaml"])  # its own files are no obstacle
    own = tmp_path / "mine"
    own.mkdir()
    (own / "evaluation.json").write_text("{}")
    answer = dadkit("evaluate", "-m", MODEL, "-o", own, "count=1", "size=32")
    assert answer.code == 1
    assert "evaluation.json exists, and dadkit did not write it" in answer.err
    (own / "films.json").write_text("mine")
    assert "films.json exists" in dadkit("evaluate", "-m", MODEL, "--films", "-o", own, "count=1", "size=32").err
    (own / "config.yaml").write_text("mine")
    with pytest.raises(DadkitError, match=r"config\.yaml exists"):
        claim(own, ["config.yaml"])
    assert not read_results(own).files
    answer = dadkit("train", "configs/quickstart.yaml", f"output={tmp_path}", "name=mine", "--fresh")
    assert "dadkit did not write it" in answer.err
    assert (own / "config.yaml").read_text() == "mine"


def test_61_a_name_that_leaves_no_room_for_an_ending_is_skipped_and_said(photos, tmp_path, dadkit):
    for length in (243, 251):  # with .color.png: 253 and 261 bytes; file systems end at 255
        Image.fromarray(picture(8, 8)).save(photos / f"{'n' * (length - 4)}.jpg")
    for _ in range(2):  # the second time beside earlier results
        answer = dadkit("predict", photos, "-m", MODEL, "-o", tmp_path / "out", "-f", "color", "--no-resume")
        assert answer.code == 3
        assert "the name is too long for this file system" in answer.err + answer.out
        assert len(list((tmp_path / "out").glob("*.color.png"))) == 4
