"""Films as players show them."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from dadkit.prediction.video import Steady
from dadkit.spaces import Space

from .conftest import MODEL, picture

av = pytest.importorskip("av")


def film(path, *, stamps=None, sound=False, count=6):
    """A film of a few frames; ``stamps``: their times in thousandths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        tone = container.add_stream("aac", rate=44100) if sound else None
        if stamps:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(48, 64, number), format="rgb24")
            if stamps:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone is not None:
            wave = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            wave.rate = 44100
            container.mux(tone.encode(wave))
            container.mux(tone.encode())
    return path


def times(path):
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def test_a_variable_frame_rate_keeps_its_times(tmp_path, dadkit):
    stamps = [0, 100, 150, 600, 700, 1500]
    source = film(tmp_path / "vfr.mp4", stamps=stamps)
    answer = dadkit("predict", source, "-m", MODEL, "-o", tmp_path / "o", "-f", "color")
    assert answer.code == 0, answer.err
    assert "variable frame rate" in answer.err
    np.testing.assert_allclose(times(tmp_path / "o" / "vfr.color.mp4"), times(source), atol=0.002)


def test_sound_is_said_once_and_a_finished_film_is_not_computed_again(tmp_path, dadkit):
    folder = tmp_path / "films"
    folder.mkdir()
    film(folder / "a.mp4", sound=True)
    film(folder / "b.mp4")
    command = ["predict", folder, "-m", MODEL, "-o", folder / "depth", "-f", "color", "-f", "npy"]
    answer = dadkit(*command)
    assert answer.code == 0, answer.err
    assert answer.err.count("sound is left out") == 1
    assert len(list((folder / "depth" / "a").glob("*.npy"))) == 6
    answer = dadkit(*command)
    assert "2 finished before" in answer.err
    assert "wrote 0 files" in answer.err


def test_steady_says_how_much_it_changed(tmp_path, dadkit):
    base = torch.rand(1, 40, 60, dtype=torch.float64)
    steady = Steady(Space.DISPARITY)
    frames = [steady(base * (1 + 0.2 * (number % 2)) + 0.1 * number) for number in range(5)]
    for frame in frames[1:]:
        torch.testing.assert_close(frame, frames[0], rtol=1e-9, atol=1e-9)
    assert steady.summary().endswith("(1 = a map's mean deviation)")
    assert "0.0000 after" in steady.summary()
    cut = torch.rand(1, 40, 60, dtype=torch.float64)
    torch.testing.assert_close(steady(cut), cut)  # another scene has no scale to the last one
    answer = dadkit("predict", film(tmp_path / "a.mp4"), "-m", MODEL, "-o", tmp_path / "o", "-f", "color", "--steady")
    assert answer.code == 0
    assert "mean change from frame to frame" in answer.err
