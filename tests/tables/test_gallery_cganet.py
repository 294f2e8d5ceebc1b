"""CGANet's figures, on networks trained for a moment and on perfect maps: what is measured, placed and drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gallery_kit import no_windows, trained  # noqa: F401 - a fixture of the whole file

from repose.errors import UserError
from repose.papers.cganet.decode import Detections
from repose.tables import gallery, gallery_jitter, gallery_run
from repose.tables import gallery_cganet as figures

WORDS = ["scale=smoke", "data=synthetic", "data.synthetic=null", "log.wandb=off", "log.progress=false"]


@pytest.fixture(scope="module")
def single(synthetic_smoke, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("gallery-cganet"), synthetic_smoke, "cganet/coco")


@pytest.fixture(scope="module")
def masks(synthetic_smoke, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("gallery-masks"), synthetic_smoke, "cganet/masks", "decode.top=5")


@pytest.fixture(scope="module")
def run(single):
    return figures.open_run(gallery.Settings.of(single))


@pytest.fixture(scope="module")
def mask_run(masks):
    return figures.open_run(gallery.Settings.of(masks), "masks")


@pytest.fixture(scope="module")
def seen(run):
    return figures.look(run, most=2)


@pytest.fixture(scope="module")
def perfect(run):
    return figures.look(run, most=3, perfect=True)


def test_headings_and_summaries_say_what_is_shown(seen, perfect):
    assert seen.heading == "CGANet TNet-D1W64, ROIGuider x2, run, on synthetic"
    assert perfect.heading == "perfect maps (the annotation itself, no network), on synthetic"
    assert "mean OKS (0 = missed)" in figures.summary(seen)
    assert "share of the person's box that is held" in figures.summary(perfect)


def test_those_with_most_people_are_shown_and_ids_choose(run, seen):
    every = figures.look(run, most=100)
    count = [len(s.box_N4) for s in every.scenes]
    assert count == sorted(count, reverse=True)
    assert [s.image_id for s in every.scenes][:2] == [s.image_id for s in seen.scenes]
    wanted = [every.scenes[2].image_id, every.scenes[0].image_id]
    assert [s.image_id for s in figures.look(run, wanted).scenes] == wanted
    with pytest.raises(UserError, match=r"nobody to show in image 77777|image 77777"):
        figures.look(run, [77777])


def test_poses_and_boxes_are_those_of_the_evaluation(run, seen):
    scene = seen.scenes[0]
    sample = int(np.flatnonzero(run.test_set.annotations.image_id_I[run.test_set.image_S] == scene.image_id)[0])
    with torch.no_grad():
        pose = run.module.evaluate(run.test_set[(0, sample)]).poses[0]
    assert scene.pose_SGK3["extended"] == pytest.approx(pose.joint_NK3.numpy(), abs=1e-3)
    assert scene.extended_G4 == pytest.approx(pose.box_N4.numpy(), abs=1e-3)
    assert scene.coarse_G4.reshape(-1, 2, 2) == pytest.approx(pose.extra["coarse_NK2"].numpy(), abs=1e-3)


def test_perfect_lines_mend_boxes_that_were_drawn_in(perfect):
    """Most: an edge that the image cuts, or the line of a neighbour, may stop or prolong the search."""
    before = np.concatenate([s.quality_SN["coarse"] for s in perfect.scenes])
    after = np.concatenate([s.quality_SN["extended"] for s in perfect.scenes])
    assert before == pytest.approx((1 - 2 * figures.CUT) ** 2, abs=1e-4)
    assert (after >= before - 1e-6).all() and np.median(after) > 0.95
    for scene in perfect.scenes:
        assert list(scene.map_HW) == ["H", "H'", "M_y", "M_x"]
        assert scene.map_HW["H"].max() == 1 and scene.shown() == list(range(len(scene.box_N4)))


def test_the_same_boxes_are_jittered_for_every_network(run):
    batch = run.test_set.sample(0)
    first = gallery_jitter.jittered_boxes(batch, (0.0, 0.1, 0.3))
    assert torch.equal(first, gallery_jitter.jittered_boxes(batch, (0.0, 0.1, 0.3)))
    assert not torch.equal(first[1:], gallery_jitter.jittered_boxes(batch, (0.0, 0.1, 0.3), 1)[1:])
    torch.testing.assert_close(first[0], batch.people.box_N4)
    size = batch.people.box_N4[:, 2:] - batch.people.box_N4[:, :2]
    for boxes, most in zip(first, (0.0, 0.1, 0.3), strict=True):
        stretch = (boxes[:, 2:] - boxes[:, :2]) / size - 1
        shift = ((boxes[:, :2] + boxes[:, 2:]) - (batch.people.box_N4[:, :2] + batch.people.box_N4[:, 2:])) / 2 / size
        assert stretch.abs().max() <= most + 1e-5 and shift.abs().max() <= most + 1e-5


class Oracle:
    """A ROI branch that finds every annotated joint which its box holds, and the box's centre for others."""

    def __init__(self, run):
        self.run = run

    def __call__(self, run, batch, box_LN4):
        joint_NK3 = batch.people.joint_NK3[batch.people.labelled_N]
        low, high = box_LN4[:, :, None, :2], box_LN4[:, :, None, 2:]
        inside = ((joint_NK3[..., :2] >= low) & (joint_NK3[..., :2] <= high)).all(-1, keepdim=True)
        point = torch.where(inside, joint_NK3[..., :2], (low + high) / 2)
        return torch.cat([point, torch.ones_like(point[..., :1])], -1)


def test_jitter_measures_what_leaves_the_box(run, monkeypatch):
    monkeypatch.setattr(gallery_jitter, "read_boxes", Oracle(run))
    found = gallery_jitter.jitter(run, (0.0, 0.3), most=100)
    assert found.images == len(figures.look(run, most=100).scenes) and found.people >= found.images
    assert found.oks_L[0] > 0.9 and found.AP_L[0] > 0.8  # a joint or two lie outside the tight boxes
    assert found.oks_L[1] < found.oks_L[0] and found.AP_L[1] < found.AP_L[0]
    assert found.name == "TNet + ROIGuider x2"


def test_joints_of_given_boxes_are_those_of_the_network(run, seen):
    scene = seen.scenes[0]
    sample = int(np.flatnonzero(run.test_set.annotations.image_id_I[run.test_set.image_S] == scene.image_id)[0])
    boxes = torch.from_numpy(scene.extended_G4).float()[None]
    joint_GK3 = gallery_jitter.read_boxes(run, run.test_set.sample(sample), boxes)[0]
    assert joint_GK3.numpy() == pytest.approx(scene.pose_SGK3["extended"], abs=1e-3)


@pytest.mark.slow
def test_every_figure_is_drawn_and_saved_as_png_and_pdf(run, mask_run, seen, perfect, tmp_path):
    settings = gallery.Settings.of(figures=str(tmp_path))
    drawn = {
        "maps": figures.maps(seen),
        "maps-perfect": figures.maps(perfect),
        "boxes": figures.boxes(seen),
        "boxes-perfect": figures.boxes(perfect),
        "jitter": gallery_jitter.jitter_curves([gallery_jitter.jitter(run, (0.0, 0.2), most=2)]),
        "jittered": gallery_jitter.jittered([run, run]),
        "masks": figures.masks(figures.look(mask_run, most=2)),
    }
    for name, figure in drawn.items():
        gallery.save(figure, name, settings)
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / f"{name}.pdf").read_bytes()[:4] == b"%PDF"
    assert drawn["maps"].get_suptitle() == seen.heading
    titles = [axes.get_title(loc="left") for axes in drawn["boxes-perfect"].axes]
    scene = perfect.scenes[0]
    assert titles[0] == f"image {scene.image_id}, coarse boxes, held {scene.quality_SN['coarse'].mean():.2f}"
    assert titles[1].startswith(f"extended boxes, held {scene.quality_SN['extended'].mean():.2f}, ")
    titles = [axes.get_title(loc="left") for axes in drawn["jittered"].axes]
    assert titles[0].startswith("TNet + ROIGuider x2, 0: OKS ") and len(titles) == 8


def test_figure_5_has_a_row_per_model(run, mask_run, seen, synthetic_smoke, tmp_path):
    where = trained(tmp_path, synthetic_smoke, "cganet/separated", "data.input_size=[96, 72]")
    separated = figures.open_run(gallery.Settings.of(where), "separated")
    photos = figures.photos(separated, most=2)
    annotations = separated.test_set.annotations
    for photo in photos:
        image = int(np.flatnonzero(annotations.image_id_I == photo.image_id)[0])
        assert len(photo.pose_GK3) == (separated.test_set.image_S == image).sum()
    figure = figures.figure_5(photos, separated.heading, seen, figures.look(mask_run, most=2))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [t.split(",")[0] for t in titles] == ["separated"] * 2 + ["single"] * 2 + ["masks"] * 2
    assert mask_run.heading in figure.get_suptitle()


def test_mask_iou_by_hand():
    a, b = np.zeros((2, 4, 4), np.uint8), np.zeros((1, 4, 4), bool)
    a[0, :2], b[0, :, :2] = 1, True
    assert figures.mask_iou(a, b).tolist() == [[pytest.approx(4 / 12)], [0.0]]
    assert figures.mask_iou(a[:0], b).shape == (0, 1)


def test_good_detections_of_nobody_are_grey_and_few(seen):
    scene = replace(seen.scenes[0], score_G=np.array([0.8, 0.5, 0.39, 0.7]), mine_N=np.array([3, -1]))
    assert scene.shown() == [0, 1, 3]
    assert scene.colour(0) == gallery.GREY and scene.colour(3) != gallery.GREY


def test_nobody_found_still_gives_figures(run, monkeypatch):
    none = Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    monkeypatch.setattr(figures, "detect", lambda *_: none)
    monkeypatch.setattr(figures, "poses", lambda *_: torch.zeros(0, 17, 8, 8))
    look = figures.look(run, most=1)
    assert look.scenes[0].quality_SN["extended"].tolist() == [0.0] * len(look.scenes[0].box_N4)
    assert len(figures.boxes(look).axes) == 2


def test_roles_are_played_by_the_checkpoint_or_the_tables_rows(single, masks, monkeypatch):
    opened = []
    monkeypatch.setattr(figures.gallery_run, "open_run", lambda settings, method: opened.append((settings, method)))
    figures.open_run(gallery.Settings.of(single))
    figures.open_run(gallery.Settings.of(masks), "masks")
    figures.open_run(gallery.Settings.of(single), "pooler")  # no such run here: a demo
    figures.open_run(gallery.Settings.of(), "guider")
    assert [s.checkpoint for s, _ in opened] == [single, masks, None, None]
    assert "model.roi.kind=pooler" in opened[2][1].demo_data
    assert "model.backbone.kind=fpn" in opened[3][1].demo_data
    for role in figures.ROWS:  # what a demo is trained with resolves, and is the row's network
        cfg = gallery_run.demo_experiment(figures.method(role)).cfg
        assert cfg.init is None and cfg.train.epochs == 3
