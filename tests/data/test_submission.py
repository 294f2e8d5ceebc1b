"""Submissions for COCO's server: named and zipped as it asks, and refused before it would refuse them."""

import json
import zipfile

import pytest

from repose.data.submission import write_zip
from repose.errors import UserError


def _result(image=7, **changes):
    result = {"image_id": image, "category_id": 1, "keypoints": [1.5, 2.0, 0.5] * 17, "score": 0.75}
    return {**result, **changes}


def test_zip_with_one_file_of_the_servers_name(tmp_path):
    file = write_zip([_result(), _result(9, bbox=[1, 2, 3, 4])], [7, 8, 9], tmp_path / "new", "pinet-w32")
    assert file.name == "person_keypoints_test-dev2017_pinet-w32_results.zip"
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["person_keypoints_test-dev2017_pinet-w32_results.json"]
        content = json.loads(archive.read(archive.namelist()[0]))
    assert [r["image_id"] for r in content] == [7, 9]
    assert all(sorted(r) == ["category_id", "image_id", "keypoints", "score"] for r in content)
    assert content[0]["keypoints"] == [1.5, 2.0, 0.5] * 17 and content[0]["score"] == 0.75


FAULTS = {
    "no score": ({"image_id": 7, "category_id": 1, "keypoints": [0] * 51}, "result 1 lacks score"),
    "no dict": ([1, 2], "result 1 lacks everything"),
    "foreign image": (_result(70), "result 1: image_id 70 is not an image of the test set"),
    "text id": (_result("7"), "image_id '7' is not an image"),
    "true id": (_result(True), "image_id True is not an image"),
    "category": (_result(category_id=2), "category_id 2 is not 1"),
    "14 joints": (_result(keypoints=[0.0] * 42), "42 keypoint values, the server needs 3 x 17"),
    "no list": (_result(keypoints="51"), "no keypoint values"),
    "nan": (_result(keypoints=[float("nan")] * 51), r"result 1 \(image 7\): a coordinate or score is not a finite"),
    "inf": (_result(score=float("inf")), "not a finite number"),
    "none": (_result(score=None), "not a finite number"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_server_would_refuse(tmp_path, fault):
    result, message = FAULTS[fault]
    with pytest.raises(UserError, match=message):
        write_zip([_result(), result], [1, 7], tmp_path, "pinet")
    assert not list(tmp_path.iterdir())


def test_names_and_emptiness(tmp_path):
    for name in ("", "a_b", "a/b", "-a"):
        with pytest.raises(UserError, match="letters, digits, dots and dashes"):
            write_zip([_result()], [7], tmp_path, name)
    with pytest.raises(UserError, match="no results"):
        write_zip([], [7], tmp_path, "pinet")
    with pytest.raises(UserError, match="no images"):
        write_zip([_result()], [], tmp_path, "pinet")


def test_other_joint_sets(tmp_path):
    file = write_zip([_result(keypoints=[0.0] * 42)], [7], tmp_path, "a1", split="test", joints=14)
    assert file.name == "person_keypoints_test_a1_results.zip"
