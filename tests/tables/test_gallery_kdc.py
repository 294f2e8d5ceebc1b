"""KDC's figures, on a network trained for a moment and on perfect maps: what is measured, placed and drawn."""

from dataclasses import replace

import gallery_kit
import numpy as np
import pytest
import torch
from gallery_kit import no_windows  # noqa: F401 - a fixture of the whole file

from repose.errors import UserError
from repose.tables import gallery
from repose.tables import gallery_kdc as figures

FIGURES = ("disks", "hough", "embeddings", "people")


@pytest.fixture(scope="module")
def run(synthetic_smoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery-kdc")
    return figures.open_run(gallery_kit.settings(folder, synthetic_smoke, "kdc/r101"))


@pytest.fixture(scope="module")
def seen(run):
    return figures.look(run, most=2)


@pytest.fixture(scope="module")
def perfect(run):
    return figures.look(run, most=2, perfect=True)


def test_headings_say_what_drew_the_maps(seen, perfect):
    assert seen.heading == "KDC, ResNet-101, run, on synthetic"
    assert perfect.heading == "perfect maps (the annotation itself, no network), on synthetic"
    assert "mean OKS" in figures.summary(seen) and "mean mask IoU" in figures.summary(perfect)


def test_those_who_overlap_most_are_shown_and_ids_choose(run, seen):
    every = figures.look(run, most=100)
    assert [s.image_id for s in every.scenes][:2] == [s.image_id for s in seen.scenes]
    wanted = [every.scenes[2].image_id, every.scenes[0].image_id]
    assert [s.image_id for s in figures.look(run, wanted).scenes] == wanted
    with pytest.raises(UserError, match=r"nobody to show in image 77777 of person_keypoints_val\.json"):
        figures.look(run, [77777])


def test_perfect_maps_find_the_people(perfect):
    for scene in perfect.scenes:
        assert np.nanmean(scene.oks_N) > 0.6 and scene.mask_iou() > 0.2
        assert scene.heat_HW.max() > 0.99


def test_a_disk_belongs_to_the_nearer_keypoint(perfect):
    scene = perfect.scenes[0]
    point_N3 = scene.truth_NK3[:, scene.joint]
    y, x = np.mgrid[: scene.disk_HW.shape[0], : scene.disk_HW.shape[1]]
    for n, (px, py, v) in enumerate(point_N3):
        if v == 0:
            assert not (scene.disk_HW == n).any()
            continue
        mine = scene.disk_HW == n
        distance = np.hypot(x - px, y - py)
        assert distance[mine].max() <= scene.radius
        for ox, oy, ov in point_N3[np.arange(len(point_N3)) != n]:
            assert ov == 0 or (distance[mine] <= np.hypot(x - ox, y - oy)[mine] + 1e-6).all()


def test_the_shown_joint_is_one_that_most_people_have(run, seen):
    high = run.module.frame.high_variance_K
    for scene in seen.scenes:
        count_K = (scene.truth_NK3[..., 2] > 0).sum(0)
        assert high[scene.joint] and count_K[scene.joint] == max(c for c, h in zip(count_K, high, strict=True) if h)


def test_perfect_keycentroids_end_at_their_keypoint(perfect):
    """Most do; where two people's disks meet, interpolation mixes their vectors."""
    for scene in perfect.scenes:
        start_A2, vector_A2 = scene.arrow_A4[:, :2].astype(int), scene.arrow_A4[:, 2:]
        whose_A = scene.disk_HW[start_A2[:, 1], start_A2[:, 0]]
        assert len(whose_A) > 10 and (whose_A >= 0).all()
        error_A = np.linalg.norm(start_A2 + vector_A2 - scene.truth_NK3[whose_A, scene.joint, :2], axis=1)
        assert np.median(error_A) < 0.01
        for n in np.unique(whose_A):  # and so the votes gather there
            x, y = np.rint(scene.truth_NK3[n, scene.joint, :2]).astype(int)
            assert scene.hough_SHW[0, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].sum() > 0.2


def test_smoothing_keeps_the_votes_and_only_cells_change_them(perfect):
    """0.4 px of the 401 frame is 0.13 pixels here: nothing."""
    scene = perfect.scenes[0]
    assert scene.sigma_S == pytest.approx((0.0, 0.4 * 128 / 400, 0.4 * 8))
    before, after, cells = scene.hough_SHW
    assert after == pytest.approx(before, abs=1e-6)
    assert cells.max() < 0.5 * before.max()
    assert cells.sum() == pytest.approx(before.sum(), rel=0.2)  # some of it leaves the picture


def test_embeddings_of_perfect_maps_gather_at_the_centroids(perfect):
    close = []
    for scene in perfect.scenes:
        for n, g in enumerate(scene.pose_N):
            if g >= 0 and scene.member_NHW[n].any():
                e_P2 = scene.embed_2HW[:, scene.member_NHW[n]].T
                close.append(np.median(np.linalg.norm(e_P2 - scene.centre_G2[g], axis=1)) / scene.reach_G[g])
    assert close and np.median(close) < 1.0


def test_poses_are_those_of_the_evaluation(run, seen):
    scene = seen.scenes[0]
    samples = run.test_set
    sample = int(np.flatnonzero(samples.annotations.image_id_I[samples.image_S] == scene.image_id)[0])
    with torch.no_grad():
        pose = run.module.evaluate(samples[(0, sample)]).poses[0]
    assert scene.pose_GK3 == pytest.approx(pose.joint_NK3.numpy(), abs=1e-4)


@pytest.mark.slow
def test_every_figure_is_drawn_and_saved_as_png_and_pdf(seen, perfect, tmp_path):
    settings = gallery.Settings.of(figures=str(tmp_path))
    for look, by in ((seen, ""), (perfect, "-perfect")):
        for name in FIGURES:
            figure = getattr(figures, name)(look)
            assert figure.get_suptitle() == look.heading
            if name in ("disks", "people"):
                gallery.save(figure, name + by, settings)
                assert (tmp_path / f"{name}{by}.png").stat().st_size > 5000
                assert (tmp_path / f"{name}{by}.pdf").read_bytes()[:4] == b"%PDF"
    titles = [axes.get_title(loc="left") for axes in figures.disks(perfect).axes]
    scene = perfect.scenes[0]
    joint = perfect.skeleton.joints[scene.joint].replace("_", " ")
    assert titles[:2] == [f"image {scene.image_id}, annotation", f"{joint}: disks, R = 10.2 pixels"]
    titles = [axes.get_title(loc="left") for axes in figures.people(perfect).axes]
    assert titles[1] == f"predicted, OKS {np.nanmean(scene.oks_N):.2f}, mask IoU {scene.mask_iou():.2f}"
    titles = [axes.get_title(loc="left") for axes in figures.hough(perfect).axes]
    assert titles[2].startswith("after PGO, 0.13 pixels: highest 0.")


def test_nobody_found_no_masks_and_no_keycentroids_still_give_figures(perfect):
    scene = perfect.scenes[0]
    n = len(scene.truth_NK3)
    empty = replace(
        scene, pose_GK3=np.zeros((0, 17, 3)), score_G=np.zeros(0), mask_GHW=None, centre_G2=np.zeros((0, 2)),
        reach_G=np.zeros(0), pose_N=np.full(n, -1), oks_N=np.zeros(n), arrow_A4=np.zeros((0, 4)),
        peak_M2=np.zeros((0, 2)), hough_SHW=np.zeros_like(scene.hough_SHW),
    )  # fmt: skip
    assert np.isnan(empty.mask_iou()) and empty.shown() == []
    look = replace(perfect, scenes=[empty])
    assert figures.people(look).axes[1].get_title(loc="left") == "nobody predicted"
    assert figures.disks(look).axes[3].get_title(loc="left") == "no KeyCentroids"
    assert figures.hough(look).axes[1].get_title(loc="left") == "votes: none"
    assert len(figures.embeddings(look).axes) == 3


def test_good_poses_of_nobody_are_grey_and_few(perfect):
    scene = replace(perfect.scenes[0], score_G=np.array([0.8, 0.5, 0.39, 0.7]), pose_N=np.array([3, -1]))
    assert scene.shown() == [0, 1, 3]  # 0.39 is below half of 0.8; people come last, on top
    assert scene.colour(0) == gallery.GREY and scene.colour(3) != gallery.GREY


def test_the_window_lies_in_the_picture(seen):
    for scene in seen.scenes:
        x1, y1, x2, y2 = figures.window_4(scene)
        high, wide = scene.image_HW3.shape[:2]
        assert 0 <= x1 < x2 <= wide - 1 and 0 <= y1 < y2 <= high - 1
