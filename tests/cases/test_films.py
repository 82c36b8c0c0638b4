"""Films as players show them."""

import socket
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.loading import load_model
from dadkit.prediction import video
from dadkit.prediction.steady import Steady
from dadkit.spaces import Space

from .conftest import MODEL, picture

av = pytest.importorskip("av")


def film(path, *, stamps=None, sound=False, count=6, pixel=None, hdr=False):
    """A film of a few frames; ``stamps``: their times in thousandths of a second; ``pixel``: its width to its height."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if pixel is not None:
            stream.codec_context.sample_aspect_ratio = pixel
        if hdr:
            stream.codec_context.color_trc = 16
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


def read_film(path):
    return video._Film(av, str(path), live=False, seconds=None)


def times(path):
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def test_17_a_variable_frame_rate_keeps_its_times(tmp_path, dadkit):
    stamps = [0, 100, 150, 600, 700, 1500]
    source = film(tmp_path / "vfr.mp4", stamps=stamps)
    answer = dadkit("predict", source, "-m", MODEL, "-o", tmp_path / "o", "-f", "color")
    assert answer.code == 0, answer.err
    assert "variable frame rate" in answer.err
    np.testing.assert_allclose(times(tmp_path / "o" / "vfr.color.mp4"), times(source), atol=0.002)


def test_17_and_19_sound_is_said_once_and_a_finished_film_is_not_computed_again(tmp_path, dadkit):
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


def test_51_steady_says_how_much_it_changed(tmp_path, dadkit):
    base = torch.rand(1, 40, 60, dtype=torch.float64)
    steady = Steady(Space.DISPARITY)
    frames = [steady(base * (1 + 0.2 * (number % 2)) + 0.1 * number) for number in range(5)]
    for frame in frames[1:]:
        torch.testing.assert_close(frame, frames[0], rtol=1e-9, atol=1e-9)
    assert steady.summary().endswith("(1 = a map's mean deviation)")
    assert "0.0000 after" in steady.summary()
    cut = torch.rand(1, 40, 60, dtype=torch.float64)
    torch.testing.assert_close(steady(cut), cut)  # another scene has no scale to the last one
    for space in (Space.SCALE, Space.METRIC):  # their 0 stays where it is
        steady = Steady(space)
        steady(base + 1)
        given = 1.2 * (base + 1) + 0.1
        ratio = steady(given) / given
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-9, atol=0)
        assert 0.7 < float(ratio.mean()) < 0.85
    answer = dadkit("predict", film(tmp_path / "a.mp4"), "-m", MODEL, "-o", tmp_path / "o", "-f", "color", "--steady")
    assert answer.code == 0
    assert "mean change from frame to frame" in answer.err


def pixels(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_19_a_killed_film_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_PART", 4)
    source, asked = film(tmp_path / "a.mp4", count=11), []

    class KilledError(Exception):
        """What a kill is to the process."""

    def predict(stem, until=None, fingerprint="x"):
        model = load_model("midas/tiny-conv", weights="none")

        def answer(images, **options):
            if len(asked) == until:
                raise KilledError
            asked.extend(images)
            return type(model).predict(model, images, **options)

        monkeypatch.setattr(model, "predict", answer)
        options = {"name": "m", "formats": ["color", "npy"], "steady": True, "fingerprint": fingerprint}
        return video.predict_video(model, source, tmp_path / stem, **options)

    torch.manual_seed(0)
    predict("whole")
    assert len(asked) == 22  # the limits of the colours take one pass
    torch.manual_seed(0)
    with pytest.raises(KilledError):
        predict("killed", until=22 + 11 + 9)
    assert not (tmp_path / "killed.color.mp4").exists()
    count = len(asked)
    torch.manual_seed(0)
    predict("killed")
    assert len(asked) - count == 3  # two parts of four were safe, and so were the limits
    assert [path.name for path in tmp_path.glob(".*")] == []
    for one, other in zip(pixels(tmp_path / "whole.color.mp4"), pixels(tmp_path / "killed.color.mp4"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert times(tmp_path / "killed.color.mp4") == pytest.approx(times(source))
    for number in range(11):
        name = f"{number:06d}.npy"
        np.testing.assert_array_equal(np.load(tmp_path / "whole" / name), np.load(tmp_path / "killed" / name))


def test_18_a_damaged_film_is_skipped_and_named(tmp_path, dadkit):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").write_bytes(b"no film")
    film(tmp_path / "films" / "b.mp4")
    with av.open(str(tmp_path / "films" / "dot.mkv"), "w") as container:  # smaller than MP4's colours allow
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 1, 1, "yuv444p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(1, 1), format="rgb24")))
        container.mux(stream.encode())
    Image.fromarray(picture(48, 64)).save(tmp_path / "films" / "c.png")
    (tmp_path / "list.txt").write_text("films/a.mp4\nfilms/b.mp4\nfilms/dot.mkv\nfilms/c.png\n")
    for number, source in enumerate(("films", "list.txt")):
        answer = dadkit("predict", tmp_path / source, "-m", MODEL, "-o", tmp_path / str(number), "-f", "color")
        assert answer.code == 3
        assert answer.err.startswith("1 image in")
        assert "cannot read" in answer.err
        assert {path.name for path in (tmp_path / str(number)).rglob("*.mp4")} == {"b.color.mp4", "dot.color.mp4"}


def test_65_a_film_that_is_cut_or_damaged_is_read_as_far_as_it_goes(tmp_path, dadkit):
    """A copy that broke off, a recording that never ended, a sector that cannot be read."""
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(48, 64, number), format="rgb24")))
        container.mux(stream.encode())
    data = whole.read_bytes()
    middle = (data.index(b"mdat") + len(data)) // 2
    (tmp_path / "cut.mp4").write_bytes(data[:middle])
    late = film(tmp_path / "late.mp4").read_bytes()
    (tmp_path / "endless.mp4").write_bytes(late[: late.index(b"moov") - 4])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "page.mp4").write_bytes(b"%PDF-1.7 and so on")
    hole = bytearray(data)
    hole[middle : middle + 200] = bytes(200)
    (tmp_path / "hole.mp4").write_bytes(bytes(hole))
    names = ["whole", "cut", "endless", "empty", "page", "hole"]
    answer = dadkit("predict", *(tmp_path / f"{name}.mp4" for name in names), "-m", MODEL, "-o", tmp_path / "o", "-f", "npy")
    said = " ".join(answer.err.split())
    assert answer.code == 3
    assert "cut: it breaks off after" in said
    assert "of 4.0 s: the file was cut, or is still being written" in said
    assert "endless.mp4 as a video: the list of its frames, which comes last, is missing" in said
    assert "empty.mp4 as a video: the file is empty" in said
    assert "page.mp4 as a video: the file is a PDF document" in said
    counts = {name: len(list((tmp_path / "o" / name).glob("*.npy"))) for name in ("whole", "cut", "hole")}
    assert counts["whole"] == 40
    assert 1 < counts["cut"] < 40
    assert 20 < counts["hole"] <= 40
    assert "whole: " not in said


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a phone held upright
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), np.fliplr),  # a front camera
    ],
)
def test_16_a_film_is_turned_as_its_file_says(matrix, shown, tmp_path):
    """The matrix is where cameras write it: in the track's header of the MP4 file."""
    plain = film(tmp_path / "plain.mp4", count=1)
    data = bytearray(plain.read_bytes())
    start = data.index(b"tkhd") + 44  # version 0: 40 bytes of times, layer and volume come first
    a, b, c, d = (0x10000 * part for part in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    (tmp_path / "turned.mp4").write_bytes(data)
    stored, turned = (next(iter(read_film(file).frames())).pixels.permute(1, 2, 0) for file in (plain, tmp_path / "turned.mp4"))
    np.testing.assert_array_equal(turned, shown(stored.numpy()))


def test_52_pixels_that_are_not_square_and_colours_that_are_not_ordinary(tmp_path, dadkit):
    """DVDs, tapes and some cameras store 4 : 3 pixels; telephones store HDR."""
    source = film(tmp_path / "wide.mkv", pixel=Fraction(4, 3), hdr=True)
    assert next(iter(read_film(source).frames())).pixels.shape == (3, 48, 85)
    answer = dadkit("predict", source, "-m", MODEL, "-o", tmp_path / "o", "-f", "color")
    assert "HDR" in answer.err
    with av.open(str(tmp_path / "o" / "wide.color.mp4")) as made:
        assert (made.streams.video[0].width, made.streams.video[0].height) == (84, 48)


def test_18_frames_of_a_folder_share_their_colours_and_can_be_steadied(tmp_path, dadkit):
    for number in (1, 2, 10):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(picture(48, 64) // (4 if number == 10 else 1)).save(tmp_path / "frames" / f"{number}.png")
    command = ["predict", tmp_path / "frames", "-m", MODEL, "-f", "color", "-f", "npy"]
    assert dadkit(*command, "-o", tmp_path / "each").code == 0
    assert "changes nothing here" in dadkit(*command, "--steady", "-o", tmp_path / "single").err
    answer = dadkit(*command, "--frames", "--steady", "-o", tmp_path / "common")
    assert answer.code == 0, answer.err
    assert "mean change from frame to frame" in answer.err

    def colour(folder, number):
        return np.asarray(Image.open(tmp_path / folder / f"{number}.color.png")).astype(float).mean((0, 1))

    assert np.abs(colour("common", 1) - colour("common", 2)).max() == 0
    assert np.abs(colour("common", 1) - colour("each", 1)).max() > 0
    (tmp_path / "common" / "2.npy").unlink()
    assert "wrote 6 files" in dadkit(*command, "--frames", "--steady", "-o", tmp_path / "common").err  # they need each other


CAMERA = """
import io, re, socket, struct, sys
import av, numpy as np
film = io.BytesIO()
with av.open(film, "w", format="mpegts") as container:
    stream = container.add_stream("mpeg2video", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for number in range(60):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * number, np.uint8), format="rgb24")))
    container.mux(stream.encode())
SDP = b"v=0\\r\\no=- 0 0 IN IP4 127.0.0.1\\r\\ns=camera\\r\\nt=0 0\\r\\nm=video 0 RTP/AVP 33\\r\\na=control:track\\r\\n"
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    visitor, _ = server.accept()
    asked = visitor.makefile("rb")
    while True:
        head = b"".join(iter(asked.readline, b"\\r\\n")).decode()
        method, head_end, body = head.split()[0], "Session: 1\\r\\n", b""
        refused = method == "SETUP" and "/TCP" not in head  # as cameras do whose UDP is blocked
        if method == "OPTIONS":
            assert "secret" not in head
            head_end = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\\r\\n"
        if method == "DESCRIBE":
            body, head_end = SDP, f"Content-Type: application/sdp\\r\\nContent-Length: {len(SDP)}\\r\\n"
        if method == "SETUP":
            head_end += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\\r\\n"
        status = "461 Unsupported Transport" if refused else "200 OK"
        number = re.search("CSeq: (.*)\\r", head)[1]
        visitor.sendall(f"RTSP/1.0 {status}\\r\\nCSeq: {number}\\r\\n{head_end}\\r\\n".encode() + body)
        if method == "PLAY":
            break
    data = film.getvalue()
    for number, at in enumerate(range(0, len(data), 7 * 188)):
        payload = struct.pack(">BBHII", 0x80, 33, number, 3600 * number, 1) + data[at : at + 7 * 188]
        visitor.sendall(b"$\\0" + struct.pack(">H", len(payload)) + payload)
    visitor.close()
"""


def wait_for(port):
    """Until something listens, which Linux says without a connection."""
    for _ in range(200):
        if f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text():
            return
        time.sleep(0.05)
    raise TimeoutError(port)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the sender is waited for by /proc")
def test_53_a_stream_is_predicted_until_it_ends(tmp_path, dadkit):
    """A server of RTSP, with its pictures inside the same connection, stands in for a network camera."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    sender = subprocess.Popen([sys.executable, "-c", CAMERA, str(port)])
    wait_for(port)
    answer = dadkit("predict", f"rtsp://me:secret@127.0.0.1:{port}/live", "-m", MODEL, "-o", tmp_path, "-f", "color")
    assert sender.wait(20) == 0
    assert answer.code == 0, answer.err
    assert "secret" not in answer.err
    (result,) = tmp_path.glob("127.0.0.1-*-live-*.color.mp4")
    found = times(result)
    assert found == sorted(found)
    assert 1 <= len(found) <= 60


def test_53_an_address_that_nobody_answers_is_named_without_its_password(tmp_path, dadkit):
    answer = dadkit("predict", "rtsp://me:secret@127.0.0.1:9/x", "-m", MODEL, "-o", tmp_path)
    assert answer.code == 3
    assert "rtsp://127.0.0.1:9/x" in answer.err
    assert "secret" not in answer.err
