"""Sizes from headers, and files that are not what they seem."""

import cv2
import numpy as np
import pytest
from PIL import Image

from repose.data.images import decode, exif_turns, probe

PICTURE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)


def _write(file, **options):
    Image.fromarray(PICTURE).save(file, **options)
    return file


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("b.jpg", {"progressive": True}),
        ("c.jpg", {"comment": b"x" * 5000}),
        ("d.png", {}),
        ("e.bmp", {}),
    ],
)
def test_headers_give_the_size_and_ends_are_looked_for(tmp_path, name, options):
    file = _write(tmp_path / name, **options)
    assert probe(file) == (53, 37) and decode(file).shape == (37, 53, 3)
    if name == "e.bmp":
        return
    file.write_bytes(file.read_bytes()[:-100])
    assert probe(file) == "truncated" and decode(file) == "truncated"


def test_grey_files(tmp_path):
    file = tmp_path / "grey.jpg"
    cv2.imwrite(str(file), PICTURE[..., 0])
    assert probe(file) == (53, 37) and decode(file).shape == (37, 53, 3)


def test_bytes_after_a_pngs_end_do_no_harm(tmp_path):
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), PICTURE)
    file.write_bytes(file.read_bytes() + b"something that follows")
    assert probe(file) == (53, 37) and decode(file).shape == (37, 53, 3)


def test_bytes_after_the_end_do_no_harm(tmp_path):
    file = _write(tmp_path / "a.jpg")
    file.write_bytes(file.read_bytes() + b"made by a camera")
    assert probe(file) == (53, 37) and not isinstance(decode(file), str)


def test_a_preview_does_not_hide_a_truncation(tmp_path):
    # A whole small JPEG inside the header has its own end marker.
    preview = _write(tmp_path / "preview.jpg", quality=5).read_bytes()
    whole = _write(tmp_path / "a.jpg").read_bytes()
    segment = b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview
    file = tmp_path / "b.jpg"
    file.write_bytes(whole[:2] + segment + whole[2:])
    assert probe(file) == (53, 37)
    file.write_bytes(file.read_bytes()[:-50])
    assert probe(file) == "truncated" and decode(file) == "truncated"


@pytest.mark.parametrize(
    ("content", "wanted"), [(b"", "not an image"), (b"hello", "not an image"), (b"\xff\xd8\xff", "truncated")]
)
def test_files_that_are_no_images(tmp_path, content, wanted):
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    assert wanted in decode(file) or content == b"\xff\xd8\xff"
    assert wanted in probe(file)


def test_missing_files(tmp_path):
    assert probe(tmp_path / "a.jpg") == decode(tmp_path / "a.jpg") == "missing"


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = _write(tmp_path / "a.jpg", exif=exif)
    assert probe(file) == (53, 37) and decode(file).shape == (37, 53, 3) and exif_turns(file)
    assert not exif_turns(_write(tmp_path / "b.jpg"))
