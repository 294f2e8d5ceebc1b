"""Figures of identity-vector grouping, on a network trained for a moment and on perfect maps: what is shown is true."""

import math
from dataclasses import replace

import gallery_kit
import numpy as np
import pytest
import torch
from gallery_kit import no_windows  # noqa: F401 - a fixture of the whole file

from repose.errors import UserError
from repose.tables import gallery
from repose.tables import gallery_idgroup as figures

FIGURES = ("presence", "vectors", "clusters", "recovered", "figure_3")


@pytest.fixture(scope="module")
def run(synthetic_smoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery-idgroup")
    return figures.open_run(gallery_kit.settings(folder, synthetic_smoke, "idgroup/mobilenetv3"))


@pytest.fixture(scope="module")
def seen(run):
    return figures.look(run)


@pytest.fixture(scope="module")
def perfect(run):
    return figures.look(run, perfect=True)


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_every_image_with_labelled_people_is_looked_at(run, seen, perfect):
    annotations = run.data.val_annotations
    wanted = int(((annotations.labelled_A > 0) & ~annotations.crowd_A).sum())
    assert sum(len(s.truth_NK3) for s in seen.scenes) == sum(len(s.truth_NK3) for s in perfect.scenes) == wanted
    assert seen.heading == "Identity vectors, MobileNetV3, run, on synthetic"
    assert perfect.heading == "perfect maps (the annotation itself, no network), on synthetic"
    assert f"{wanted} people" in figures.summary(seen) and "0.00 cells off" in figures.summary(perfect)


def test_ids_choose_images_in_their_order_and_a_wrong_one_is_named(run, seen):
    wanted = [seen.scenes[2].image_id, seen.scenes[0].image_id]
    assert [s.image_id for s in figures.look(run, wanted).scenes] == wanted
    with pytest.raises(UserError, match=r"nobody to show in image 77777 of person_keypoints_val\.json"):
        figures.look(run, [77777])


def test_poses_are_those_of_the_evaluation_and_means_of_their_clusters(run, seen):
    checked = 0
    for scene in seen.scenes[:3]:
        samples = run.test_set
        sample = int(np.flatnonzero(samples.annotations.image_id_I[samples.image_S] == scene.image_id)[0])
        with torch.no_grad():
            pose = run.module.evaluate(samples[(0, sample)]).poses_img[0]
        assert scene.pose_GK3 == pytest.approx(pose.joint_NK3.numpy(), abs=1e-3)
        for g, pose_K3 in enumerate(scene.pose_GK3):
            mine_P = scene.label_P == g
            assert mine_P.any()
            assert pose_K3[:, :2] == pytest.approx(scene.vector_PK2[mine_P].mean(0), abs=1e-2)
            checked += 1
    assert checked > 0


def test_perfect_maps_find_the_people_that_stand_apart(perfect):
    for scene in perfect.scenes:
        apart = scene.nearest_pair()[0]
        assert scene.error_M.max() < 1e-5
        if apart > 2 * perfect.distance:
            assert sorted(scene.pose_N.tolist()) == list(range(len(scene.truth_NK3)))
            assert (scene.oks_N[(scene.truth_NK3[..., 2] > 0).all(1)] > 0.999).all()
        for n, g in enumerate(scene.pose_N):  # what the annotation lacks is not drawn: the maps have the mean there
            drawn_K3 = figures._by_cells(scene.pose_GK3[g])
            assert g < 0 or ((drawn_K3[:, 2] > 0) == (scene.truth_NK3[n, :, 2] > 0)).all()
    assert any(s.nearest_pair()[0] > 2 * perfect.distance for s in perfect.scenes)


def test_cells_lie_at_their_joints_and_the_map_covers_them(seen):
    for scene in seen.scenes:
        joint_M2 = scene.truth_NK3[scene.owner_M, scene.joint_M, :2]
        assert np.hypot(*(scene.true_M2 - joint_M2).T).max() <= scene.cell + 1e-3  # the radius is one cell
        x1, y1, x2, y2 = scene.extent_4
        high, wide = scene.heat_HW.shape
        assert (x2 - x1) / wide == pytest.approx(scene.cell) == pytest.approx((y2 - y1) / high)
        cell_P2 = (scene.active_P2 - [x1, y1]) / scene.cell - 0.5
        assert cell_P2 == pytest.approx(np.rint(cell_P2), abs=1e-6)
        x, y = np.rint(cell_P2).astype(int).T
        assert (scene.heat_HW[y, x] >= seen.threshold - 1e-6).all()


def test_vectors_are_asked_at_every_true_cell_and_their_error_is_in_cells(seen, perfect):
    for scene in seen.scenes:
        truth_MK3 = scene.truth_NK3[scene.owner_M]
        square = np.square(scene.asked_MK2 - truth_MK3[..., :2]).sum(-1) * (truth_MK3[..., 2] > 0)
        wanted = np.sqrt(square.sum(1) / (truth_MK3[..., 2] > 0).sum(1)) / scene.cell
        assert scene.error_M == pytest.approx(wanted, abs=1e-3)


def test_distances_are_those_that_t_is_compared_with(perfect):
    scene = next(s for s in perfect.scenes if len(s.truth_NK3) == 2 and len(s.score_G) == 2)
    distance_PP = scene.distance_PP()
    same = scene.label_P[:, None] == scene.label_P
    assert distance_PP[same].max() < 1e-4 and distance_PP[~same].min() >= perfect.distance
    if (scene.truth_NK3[..., 2] > 0).all():
        assert distance_PP[~same].max() == pytest.approx(scene.nearest_pair()[0], abs=1e-3)


def test_hidden_joints_are_recovered_by_the_others(run, perfect):
    """No cell of a hidden joint is left but where another joint of the same cell owns it; the pose stays exact."""
    blind = figures.look(run, perfect=True, hide=True)
    assert blind.heading.startswith("perfect maps (the annotation itself, no network), hidden joints' cells removed")
    found = 0
    for before, scene in zip(perfect.scenes, blind.scenes, strict=True):
        hidden_M = before.truth_NK3[before.owner_M, before.joint_M, 2] == 1
        assert len(scene.label_P) == len(before.label_P) - hidden_M.sum()
        if scene.nearest_pair()[0] < 2 * perfect.distance:
            continue
        for n, g in enumerate(scene.pose_N):
            if g < 0 or not (scene.truth_NK3[n, :, 2] == 1).any():
                continue
            gone_K = (scene.pose_GK3[g, :, 2] == 0) & (scene.truth_NK3[n, :, 2] == 1)
            error = np.hypot(*(scene.pose_GK3[g, gone_K, :2] - scene.truth_NK3[n, gone_K, :2]).T)
            assert (error < 1e-2).all()
            found += gone_K.sum()
    assert found > 0


def test_a_copy_nearer_than_t_merges(run, perfect):
    figure = figures.near(run, perfect, 2)
    t = perfect.distance
    assert titles(figure)[:4] == [
        f"{t / 3:.1f} cells apart: 1 person found (dark)", f"{2 * t / 3:.1f} cells apart: 1 person found (dark)",
        f"{4 * t / 3:.1f} cells apart: 2 people found (dark)", f"{2 * t:.1f} cells apart: 2 people found (dark)",
    ]  # fmt: skip
    nearest = min(s.nearest_pair()[0] for s in perfect.scenes)
    assert titles(figure)[4].endswith(f"two people, {nearest:.1f} cells apart")
    assert titles(figure)[5] == ("merged: cells of both in one cluster" if nearest < t else "kept apart")
    assert figure.get_suptitle().endswith(f"T = {t:g} cells")


@pytest.mark.slow
def test_every_figure_is_drawn_and_saved_as_png_and_pdf(seen, perfect, tmp_path):
    settings = gallery.Settings.of(figures=str(tmp_path))
    for look, by in ((seen, ""), (perfect, "-perfect")):
        for name in FIGURES:
            figure = getattr(figures, name)(look, 2)
            assert figure.get_suptitle() == look.heading
            if name in ("vectors", "clusters"):
                gallery.save(figure, name + by, settings)
                assert (tmp_path / f"{name}{by}.png").stat().st_size > 5000
                assert (tmp_path / f"{name}{by}.pdf").read_bytes()[:4] == b"%PDF"
    scene = figures.overlapping(perfect, 1)[0]
    assert titles(figures.presence(perfect, 1))[:3] == [
        f"image {scene.image_id}: {len(scene.owner_M)} keypoint cells", "presence, highest 1.00",
        f"{len(scene.owner_M)} cells from {perfect.threshold:g} on, {len(scene.owner_M)} of them right",
    ]  # fmt: skip
    assert titles(figures.vectors(perfect, 1))[1:3] == ["their vectors: 0.00 cells off", "their mean: 0.00 cells off"]


def test_nobody_found_still_gives_figures(perfect):
    scene = perfect.scenes[0]
    n = len(scene.truth_NK3)
    none = np.zeros(0, int)
    empty = replace(
        scene, active_P2=np.zeros((0, 2)), owner_P=none, joint_P=none, label_P=none, vector_PK2=np.zeros((0, 17, 2)),
        pose_GK3=np.zeros((0, 17, 3)), score_G=np.zeros(0), pose_N=np.full(n, -1), oks_N=np.zeros(n),
    )  # fmt: skip
    look = replace(perfect, scenes=[empty])
    assert titles(figures.clusters(look))[:4] == [
        f"no cell reaches {perfect.threshold:g}", "0 clusters", "no vectors", f"image {scene.image_id}: nobody found",
    ]  # fmt: skip
    assert titles(figures.recovered(look))[0] == "nobody with hidden joints was found"
    assert math.isfinite(empty.error_M.mean()) and len(figures.vectors(look).axes) == 3


def test_good_poses_of_nobody_are_grey_and_few(perfect):
    scene = replace(perfect.scenes[0], score_G=np.array([0.5, 0.8, 0.39, 0.7]), pose_N=np.array([3, -1]))
    assert scene.shown() == [1, 0, 3]  # 0.39 is below half of 0.8; people come last, on top
    assert scene.colours()[:3] == [gallery.GREY] * 3 and scene.colours()[3] != gallery.GREY
