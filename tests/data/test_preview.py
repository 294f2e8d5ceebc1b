"""The preview sheet: rows, panels, chosen samples, the mirrored panel, both views."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from repose.config import Augment, Data, Draw, ExperimentBase
from repose.data import preview as sheet
from repose.errors import UserError


def experiment(folder, **changes):
    data = Data(
        name="drawn",
        root=str(folder),
        train_json="annotations/person_keypoints_train.json",
        train_images="images/train",
        val_json="annotations/person_keypoints_val.json",
        val_images="images/val",
        input_size=(128, 96),
        augment=Augment(flip=0.5, rotation=Draw(1.0, (-30, 30))),
        workers=0,
        cache="off",
    )
    return ExperimentBase(data=replace(data, **changes))


def parts(monkeypatch, cfg, out, **how):
    """What is put on the sheet."""
    kept = {}
    real = sheet.viz.sheet

    def spy(pictures, columns, captions, *rest):
        kept.update(pictures=pictures, columns=columns, captions=captions)
        return real(pictures, columns, captions, *rest)

    monkeypatch.setattr(sheet.viz, "sheet", spy)
    assert sheet.preview(cfg, out, **how) == out
    return kept


def test_a_row_per_sample_with_five_panels(synthetic_smoke, tmp_path, monkeypatch):
    kept = parts(monkeypatch, experiment(synthetic_smoke), tmp_path / "new" / "sheet.png", n=3)
    assert kept["columns"] == 5 and len(kept["pictures"]) == 15
    assert kept["captions"][1:5] == ["input, 96 x 128", "augmented", "augmented again", "mirrored"]
    assert kept["captions"][0].startswith("image ") and "annotation" in kept["captions"][0]
    written = cv2.imread(str(tmp_path / "new" / "sheet.png"))
    assert written.shape[0] > 3 * 320 and written.shape[1] > 5 * 200


def test_the_mirrored_panel_is_the_mirrored_input(synthetic_smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(sheet.viz, "draw_poses", lambda image, *_: sheet.viz.as_image(image))  # pixels alone
    kept = parts(monkeypatch, experiment(synthetic_smoke), tmp_path / "sheet.png", indices=[2])
    plain, mirrored = (kept["pictures"][i].astype(int) for i in (1, 4))
    assert np.abs(plain[:, ::-1] - mirrored).mean() < 2.0 < np.abs(plain - mirrored).mean()


def test_two_stages_show_a_draw_of_each(synthetic_smoke, tmp_path, monkeypatch):
    cfg = experiment(synthetic_smoke, augment_final=Augment(), final_share=0.5)
    cfg = replace(cfg, train=replace(cfg.train, epochs=4))
    kept = parts(monkeypatch, cfg, tmp_path / "sheet.png", indices=[0])
    assert kept["captions"][2:4] == ["augmented", "augmented, last epochs"]
    assert (kept["pictures"][3] == kept["pictures"][1]).all()  # the last stage augments nothing here
    assert (kept["pictures"][2] != kept["pictures"][1]).any()


def test_the_image_view_shows_everybody(synthetic_smoke, tmp_path, monkeypatch):
    cfg = experiment(synthetic_smoke, view="image", base="long", centre="image", input_size=(256, 256))
    kept = parts(monkeypatch, cfg, tmp_path / "sheet.png", n=2)
    assert len(kept["pictures"]) == 10 and kept["captions"][4] == "mirrored"
    extra = read(synthetic_smoke)[0]
    crowding = f"max IoU {extra['max_iou']:.2f}, crowd index {extra['crowdIndex']:.2f}"
    assert kept["captions"][0] == f"image {extra['id']}, {crowding}"


def read(folder):
    """Images of the drawn training split, as the json has them."""
    return json.loads((folder / "annotations" / "person_keypoints_train.json").read_text())["images"]


def test_the_image_view_draws_every_persons_box_in_one_colour_throughout(synthetic_smoke, tmp_path, monkeypatch):
    drawn = []
    real = sheet.viz.draw_boxes

    def spy(image, box_N4, **how):
        drawn.append((np.asarray(box_N4), how["colours"]))
        return real(image, box_N4, **how)

    monkeypatch.setattr(sheet.viz, "draw_boxes", spy)
    cfg = experiment(synthetic_smoke, view="image", base="long", centre="image", input_size=(256, 256))
    parts(monkeypatch, cfg, tmp_path / "sheet.png", n=12)
    assert len(drawn) == 5 * 12  # the photograph and every input
    photograph, plain = drawn[0], drawn[1]
    assert photograph[1] == plain[1] and len(set(plain[1])) == len(plain[0])
    drawn.clear()
    parts(monkeypatch, experiment(synthetic_smoke), tmp_path / "sheet.png", n=2)
    assert len(drawn) == 2  # person view: the crop is the box


def test_a_sample_that_is_not_there_is_named(synthetic_smoke, tmp_path):
    with pytest.raises(UserError, match=r"sample 9999 is not there; .* has samples 0 to \d+"):
        sheet.preview(experiment(synthetic_smoke), tmp_path / "sheet.png", indices=[9999])


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        sheet.write(tmp_path / "taken" / "sheet.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match="cannot be written"):
        sheet.write(tmp_path / "sheet.nonsense", np.zeros((4, 4, 3), np.uint8))
