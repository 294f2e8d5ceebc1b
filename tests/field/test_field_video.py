"""Videos: reading whole, cut off and broken ones, writing, and following people through one."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from field_kit import JOINT_NK2, dots, reader

from repose.errors import UserError
from repose.field.boxes import NONE, Boxes
from repose.field.options import Smooth, Track
from repose.field.sources import Frame, Video, find_source, read_picture
from repose.field.video import MEASURED, Follower, follow
from repose.field.writers import CODECS, CsvFile, JsonList, VideoFile, write_picture

SIZE = (160, 128)


def frames(n=30, move=2.0):
    """A person of dots who walks to the right."""
    return [dots(JOINT_NK2 * 0.9 + (move * i, 0), SIZE) for i in range(n)]


def write(path, pictures, codec="vp8", fps=25.0):
    with VideoFile(path, codec, fps, (pictures[0].shape[1], pictures[0].shape[0])) as video:
        for picture in pictures:
            video.add(picture)
    return path


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_written_can_be_read(codec, tmp_path, capfd):
    pictures = frames(12)
    path = write(tmp_path / f"a{CODECS[codec][1]}", pictures, codec)
    video = Video(path)
    got = list(video)
    assert [f.number for f in got] == list(range(12))
    np.testing.assert_allclose([f.second for f in got], np.arange(12) / 25, atol=2e-3)
    assert (video.fps, video.frames, video.size_wh) == (pytest.approx(25), 12, SIZE)
    assert video.problems() == []
    apart = np.abs(got[3].image_HW3.astype(int) - pictures[3]).mean()
    assert apart < 6  # RGB in, RGB out
    assert capfd.readouterr().err == ""  # FFmpeg's own words stay out of it


def test_odd_sizes_get_a_row_more(tmp_path):
    pictures = [np.full((51, 67, 3), 90, np.uint8)] * 4
    (frame, *_) = Video(write(tmp_path / "odd.webm", pictures))
    assert frame.image_HW3.shape == (52, 68, 3)


def test_a_video_that_breaks_off_is_read_to_there_and_named(tmp_path, capfd):
    data = write(tmp_path / "a.webm", frames(30)).read_bytes()
    (tmp_path / "cut.webm").write_bytes(data[: int(len(data) * 0.6)])
    video = Video(tmp_path / "cut.webm")
    read = len(list(video))
    assert 5 < read < 30
    (problem,) = video.problems()
    assert problem.startswith(f"cut.webm: ends early, {30 - read} of 30 frames are missing or broken")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"hello" * 300])
def test_what_is_no_video_is_one_line(content, tmp_path, capfd):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.mp4: not a video that OpenCV's FFmpeg can open") as error:
        Video(tmp_path / "x.mp4")
    assert "\n" not in str(error.value)
    # an mp4 that breaks off lacks its table of contents
    data = write(tmp_path / "a.mp4", frames(10), "mp4v").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="not a video"):
        Video(tmp_path / "cut.mp4")
    with pytest.raises(UserError, match="no such video"):
        Video(tmp_path / "none.mp4")
    assert capfd.readouterr().err == ""


class FakeCapture:
    """A video of which some frames cannot be decoded, as OpenCV shows it."""

    def __init__(self, good, count, shapes=None):
        self.good, self.count, self.at = list(good), count, -1
        self.shapes = shapes or {}

    def read(self):
        if not self.good:
            return False, None
        self.at = self.good.pop(0)
        return True, np.zeros(self.shapes.get(self.at, (8, 8, 3)), np.uint8)

    def get(self, key):
        values = {cv2.CAP_PROP_FPS: 10.0, cv2.CAP_PROP_FRAME_COUNT: self.count, cv2.CAP_PROP_POS_MSEC: 100.0 * self.at}
        return values.get(key, 8)

    def isOpened(self):
        return True

    def release(self):
        pass


def opened(monkeypatch, tmp_path, capture):
    (tmp_path / "v.mkv").write_bytes(b"x")
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: capture)
    return Video(tmp_path / "v.mkv")


def test_broken_frames_in_the_middle_are_named_by_their_time(monkeypatch, tmp_path):
    video = opened(monkeypatch, tmp_path, FakeCapture([0, 1, 4, 5, 6, 9], 12))
    assert [round(f.second, 3) for f in video] == [0, 0.1, 0.4, 0.5, 0.6, 0.9]
    assert video.problems() == [
        "v.mkv: 2 broken frames from 0.20 to 0.30 s; skipped",
        "v.mkv: 2 broken frames from 0.70 to 0.80 s; skipped",
        "v.mkv: ends early, 2 of 12 frames are missing or broken (a copy that broke off?)",
    ]
    # an uneven rate is no loss
    video = opened(monkeypatch, tmp_path, FakeCapture([0, 1, 4, 5, 6, 9], 6))
    assert len(list(video)) == 6 and video.problems() == []


def test_frames_of_another_size_and_a_missing_rate(monkeypatch, tmp_path):
    video = opened(monkeypatch, tmp_path, FakeCapture([0, 1, 2], 3, {1: (4, 4, 3)}))
    assert [f.number for f in video] == [0, 1]
    assert video.problems() == ["v.mkv: 1 frames of another size; skipped"]
    monkeypatch.setattr(FakeCapture, "get", lambda *_: 0.0)
    video = opened(monkeypatch, tmp_path, FakeCapture([0, 1, 2], 3))
    assert (video.fps, video.frames) == (25.0, None)
    np.testing.assert_allclose([f.second for f in video], [0, 0.04, 0.08])


def test_a_missing_codec_is_one_line_with_the_way_out(monkeypatch, tmp_path):
    class Closed:
        fourcc = staticmethod(cv2.VideoWriter.fourcc)

        def __init__(self, *_):
            pass

        def isOpened(self):
            return False

    monkeypatch.setattr(cv2, "VideoWriter", Closed)
    with pytest.raises(UserError, match=r"cannot write vp8 video at 160x128 .*use draw.codec=mp4v"):
        VideoFile(tmp_path / "a.webm", "vp8", 25, SIZE)
    assert not (tmp_path / "a.webm").exists()


def test_webcams_that_are_not_there(capfd):
    with pytest.raises(UserError, match="webcam 97: cannot be opened"):
        Video(97)
    assert capfd.readouterr().err == ""


# --- following ------------------------------------------------------------------------------------------------------


class Detector:
    """The true box of `frames`, and notes when it was asked."""

    words = "true boxes"

    def __init__(self, move=2.0):
        self.asked, self.move = [], move

    def __call__(self, image, name, frame):
        self.asked.append(frame)
        low, high = JOINT_NK2.min(0) * 0.9 - 8, JOINT_NK2.max(0) * 0.9 + 8
        shift = np.array([self.move * frame, 0])
        return Boxes(np.concatenate([low + shift, high + shift])[None], np.array([0.8]))


def test_skipped_frames_are_cropped_around_the_last_keypoints():
    detector = Detector()
    predictor = reader(detector, input_size=(192, 192))
    follower = Follower(predictor, Track(interval=5), Smooth(preset="off"), "clip")
    for n, image in enumerate(frames(12)):
        poses = follower(Frame(n, n / 25, image), 1 / 25)
        assert poses.track_N.tolist() == [1]
        np.testing.assert_allclose(poses.joint_NK3[0, :, :2], JOINT_NK2 * 0.9 + (2.0 * n, 0), atol=0.15)
        assert (poses.frame, poses.source) == (n, f"clip#{n}")
        assert float(poses.score_N) == pytest.approx(0.8 * 0.9)  # the detector's score goes on with the track
        spent = follower.spent
        assert (spent.detector > 0) == (n % 5 == 0) and min(spent.network, spent.crops, spent.tracks) > 0
    assert detector.asked == [0, 5, 10]


def test_the_filter_lags_and_says_what_was_measured():
    predictor = reader(Detector(6.0), input_size=(192, 192))
    follower = Follower(predictor, Track(interval=1), Smooth(), "clip")
    for n, image in enumerate(frames(5, 6.0)):
        poses = follower(Frame(n, n / 25, image), 1 / 25)
    true = JOINT_NK2 * 0.9 + (6.0 * 4, 0)
    np.testing.assert_allclose(poses.extra[MEASURED][0], true, atol=0.2)
    assert (poses.joint_NK3[0, :, 0].numpy() < true[:, 0] - 1).all()


def test_whole_picture_methods_are_followed_too(tmp_path):
    predictor = reader(view="image", base="long", centre="image", input_size=(160, 160))
    path = write(tmp_path / "a.webm", frames(8))
    found = list(predictor.video(path, smooth=Smooth(preset="off")))
    assert [p.track_N.tolist() for p in found] == [[1]] * 8
    np.testing.assert_allclose(found[5].joint_NK3[0, :, :2], JOINT_NK2 * 0.9 + (10, 0), atol=2.0)  # VP8's colours
    video = Video(path)
    assert len(list(follow(predictor, video, frames=3))) == 3
    with pytest.raises(UserError, match="no such video"):
        next(predictor.video("none.mp4"))


def test_nobody_in_sight():
    class Nobody:
        words = "nobody"

        def __call__(self, *_):
            return NONE

    follower = Follower(reader(Nobody(), input_size=(64, 64)), Track(), Smooth(), "clip")
    for n in range(3):
        poses = follower(Frame(n, n / 25, np.zeros((64, 64, 3), np.uint8)), 1 / 25)
        assert poses.n == 0 and poses.track_N.shape == (0,) and poses.draw(fast=True).shape == (64, 64, 3)


# --- files ----------------------------------------------------------------------------------------------------------


def test_json_lists_are_valid_after_every_addition(tmp_path):
    path = tmp_path / "deep" / "r.json"
    with JsonList(path) as file:
        assert json.loads(path.read_text()) == []
        for n in range(3):
            file.add([{"n": n}, {"ü": float(n)}])
            assert len(json.loads(path.read_text())) == 2 * n + 2
        file.add([])
    with JsonList(tmp_path / "i.json", '{"images":[', '],"x":1}') as file:
        assert json.loads((tmp_path / "i.json").read_text()) == {"images": [], "x": 1}
        file.add({"id": i} for i in range(2))
        assert json.loads((tmp_path / "i.json").read_text())["images"] == [{"id": 0}, {"id": 1}]


def test_files_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    for make in (
        lambda: JsonList(tmp_path / "file" / "r.json"),
        lambda: CsvFile(tmp_path / "file" / "r.csv", ["a"]),
        lambda: write_picture(tmp_path / "file" / "r.png", np.zeros((4, 4, 3), np.uint8)),
        lambda: VideoFile(tmp_path / "file" / "r.webm", "vp8", 25, (16, 16)),
    ):
        with pytest.raises(UserError, match="cannot be written"):
            make()


def test_sources(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.PNG").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    assert [p.name for p in find_source(str(tmp_path)).files] == ["a.jpg", "b.PNG"]
    assert find_source(str(tmp_path / "*.jpg")).files == (tmp_path / "a.jpg",)
    assert find_source("0").camera == 0 and find_source("0").kind == "webcam"
    assert read_picture(tmp_path / "a.jpg").reason == "not an image that OpenCV can read"
    for text, part in (
        (str(tmp_path / "empty"), "a folder without pictures"),
        (str(tmp_path / "*.gif"), "no picture matches; quote the pattern"),
        (str(tmp_path / "none"), "no such file"),
    ):
        with pytest.raises(UserError, match=part):
            find_source(text)
    (tmp_path / "empty" / "v.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="it has a video"):
        find_source(str(tmp_path / "empty"))


def test_a_window_needs_a_display(monkeypatch):
    pytest.importorskip("tkinter")
    from repose.field.window import Window

    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match=r"--show: no display here"):
        Window("x")
