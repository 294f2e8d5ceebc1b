"""PINet's figures, on a network trained for a moment: what is measured, matched, placed and drawn."""

from dataclasses import replace

import gallery_kit
import numpy as np
import pytest
import torch
from gallery_kit import no_windows  # noqa: F401 - a fixture of the whole file

from repose import papers
from repose.config import load
from repose.errors import UserError
from repose.skeleton import COCO17
from repose.tables import gallery, gallery_run
from repose.tables import gallery_pinet as figures


@pytest.fixture(scope="module")
def run(synthetic_smoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery-pinet")
    return figures.open_run(gallery_kit.settings(folder, synthetic_smoke, "pinet/ochuman"))


@pytest.fixture(scope="module")
def scenes(run):
    return figures.look(run)


def test_every_image_with_labelled_people_is_looked_at(run, scenes):
    annotations = run.data.val_annotations
    wanted = annotations.ann_id_A[(annotations.labelled_A > 0) & ~annotations.crowd_A]
    assert sorted(int(i) for s in scenes for i in s.ann_id_N) == sorted(wanted.tolist())
    assert run.heading == "PINet, run, on synthetic"
    people = f"{len(wanted)} people"
    assert people in figures.summary(scenes) and "PPG + PR + PF" in figures.summary(scenes)


def test_the_fused_poses_are_those_of_the_evaluation_and_the_initial_ones_lie_behind_them(run, scenes):
    scene = scenes[0]
    sample = int(np.flatnonzero(run.test_set.annotations.image_id_I[run.test_set.image_S] == scene.image_id)[0])
    with torch.no_grad():
        pose = run.module.evaluate(run.test_set[(0, sample)]).poses_img[0]
    assert scene.pose_SGK3["fused"] == pytest.approx(pose.joint_NK3.numpy(), abs=1e-3)
    assert scene.pose_SGK3["initial"][..., :2] == pytest.approx(pose.extra["initial_NK2"].numpy(), abs=1e-3)
    assert list(scene.pose_SGK3) == ["initial", "refined", "fused"]
    assert np.abs(scene.pose_SGK3["refined"] - scene.pose_SGK3["initial"])[..., :2].max() > 1e-3  # PR did something


def test_oks_is_the_metrics_formula_on_the_photograph(run, scenes):
    annotations = run.data.val_annotations
    row = int(np.flatnonzero(annotations.ann_id_A == scenes[0].ann_id_N[0])[0])
    moved = annotations.joint_AK3[row][None, :, :2] + [[[6.0, 0.0]]]
    k_K = 2 * np.array(run.skeleton.sigmas)
    similar = np.exp(-36.0 / (2 * annotations.area_A[row] * k_K**2))
    wanted = similar[annotations.joint_AK3[row][:, 2] > 0].mean()
    value = gallery_run.annotation_oks(torch.from_numpy(moved), annotations, np.array([row]), run.skeleton)
    assert value[0, 0] == pytest.approx(wanted, abs=1e-9)


def test_everybody_gets_the_most_similar_pose_once():
    assert figures.assign(np.array([[0.9, 0.8], [0.85, 0.3]])).tolist() == [0, 1]
    assert figures.assign(np.array([[0.5, 0.8], [0.85, 0.05]])).tolist() == [1, 0]
    assert figures.assign(np.array([[0.9, 0.8], [0.85, 0.05]])).tolist() == [0, -1]  # 0.05 is nobody's pose
    assert figures.assign(np.zeros((0, 2))).tolist() == [-1, -1]


def test_good_poses_of_nobody_are_shown_as_such(scenes):
    score_G = np.array([0.8, 0.5, 0.39, 0.7])
    scene = replace(scenes[0], score_G=score_G, pose_N=np.array([3, -1]))
    assert scene.extra().tolist() == [0, 1]  # 0.39 is below half of 0.8; 3 is somebody's
    assert replace(scene, pose_N=np.array([3])).extra().tolist() == [0]  # no more than there are people
    assert replace(scene, score_G=np.zeros(0), pose_N=np.array([-1])).extra().tolist() == []


def test_peaks_lie_where_their_cells_are_on_the_photograph(scenes):
    found = 0
    for scene in scenes:
        x1, y1, x2, y2 = scene.extent_4
        high, wide = scene.heat_PHW.shape[1:]
        for x, y, part, height in scene.peak_M4:
            column, row = (x - x1) / (x2 - x1) * wide - 0.5, (y - y1) / (y2 - y1) * high - 0.5
            assert (column, row) == pytest.approx((round(column), round(row)), abs=1e-3)
            assert scene.heat_PHW[int(part), round(row), round(column)] == pytest.approx(height, abs=1e-6)
            found += 1
    assert found > 0


def test_part_centres_are_means_of_the_labelled_joints(run, scenes):
    for scene in scenes:
        for truth_K3, centre_P2 in zip(scene.truth_NK3, scene.centre_NP2, strict=True):
            for p, joints in enumerate(run.module.parts.joints):
                part = truth_K3[list(joints)]
                labelled = part[part[:, 2] > 0, :2]
                if len(labelled):
                    assert centre_P2[p] == pytest.approx(labelled.mean(0), abs=1e-3)
                else:
                    assert np.isnan(centre_P2[p]).all()


def test_the_window_holds_the_people_and_stays_in_the_photograph(scenes):
    for scene in scenes:
        x1, y1, x2, y2 = scene.window_4()
        height, width = scene.image_HW3.shape[:2]
        assert -0.51 <= x1 < x2 <= width - 0.49 and -0.51 <= y1 < y2 <= height - 0.49
        assert x1 <= scene.box_N4[:, 0].min() + 1e-6 and scene.box_N4[:, 2].max() - 1e-6 <= x2
        assert y1 <= scene.box_N4[:, 1].min() + 1e-6 and scene.box_N4[:, 3].max() - 1e-6 <= y2


def test_ids_choose_images_in_their_order_and_a_wrong_one_is_named(run, scenes):
    wanted = [scenes[2].image_id, scenes[0].image_id]
    assert [s.image_id for s in figures.look(run, wanted)] == wanted
    with pytest.raises(UserError, match=r"nobody to show in image 77777 of person_keypoints_val\.json"):
        figures.look(run, [77777])


def test_those_who_overlap_most_come_first(scenes):
    chosen = figures.overlapping(scenes, 3)
    assert [s.overlap for s in chosen] == sorted((s.overlap for s in scenes), reverse=True)[:3]


@pytest.mark.slow
def test_every_figure_is_drawn_and_saved_as_png_and_pdf(run, scenes, tmp_path):
    settings = gallery.Settings.of(figures=str(tmp_path))
    shown = figures.overlapping(scenes, 2)
    drawn = {
        "centres": figures.centres(run, shown),
        "stages": figures.stages(run, shown),
        "figure-4": figures.figure_4(run, shown),
        "graph": figures.graph(run),
        "failures": figures.failures(run, scenes, 4),
    }
    for name, figure in drawn.items():
        gallery.save(figure, name, settings)
        assert (tmp_path / f"{name}.png").stat().st_size > 5000 and (tmp_path / f"{name}.pdf").read_bytes()[
            :4
        ] == b"%PDF"
    titles = {n: [axes.get_title(loc="left") for axes in f.axes] for n, f in drawn.items()}
    assert [t.split(",")[0] for t in titles["centres"][1:4]] == ["upper", "middle", "bottom"]
    assert [t.split(",")[0] for t in titles["stages"][1:4]] == ["PPG", "PPG + PR", "PPG + PR + PF"]
    assert titles["stages"][3] == f"PPG + PR + PF, OKS {shown[0].oks_SN['fused'].mean():.2f}"
    assert len(titles["figure-4"]) == 6
    worst = sorted(float(v) for s in scenes for v in s.oks_SN["fused"])[:4]
    assert titles["failures"][1::2] == [f"OKS {v:.2f}" if v else "missed" for v in worst]
    assert titles["failures"][0].startswith("1. image ")


def test_the_graph_figure_shows_the_start_the_learnt_one_and_their_difference(run):
    pr = run.module.net.pr
    learnt_KK = pr.graph_KK.detach().clone()
    nose, ankle = COCO17.index("nose"), COCO17.index("left_ankle")
    with torch.no_grad():
        pr.graph_KK[nose, ankle] += 0.5
    start, now, change = (np.asarray(axes.images[0].get_array()) for axes in figures.graph(run).axes[:3])
    with torch.no_grad():
        pr.graph_KK.copy_(learnt_KK)
    assert np.allclose(np.diag(start) > 0, True) and start[nose, ankle] == 0
    assert now[nose, ankle] == pytest.approx(float(learnt_KK[nose, ankle]) + 0.5)
    assert change == pytest.approx(now - start)
    assert start[COCO17.index("left_hip"), COCO17.index("left_knee")] > 0
    assert np.linalg.eigvalsh(start).max() == pytest.approx(1, abs=1e-6)  # what `skeleton_graph` promises
    panel = figures.graph(run).axes[0]
    assert [t.get_text() for t in panel.get_xticklabels()] == [j.replace("_", " ") for j in COCO17.joints]


def test_a_network_without_refinement_has_two_stages_and_no_graph(run):
    pr = run.module.net.pr
    run.module.net.pr = None
    try:
        scene = figures.look(run, most=1)[0]
        assert list(scene.pose_SGK3) == ["initial", "fused"] and not figures.has_graph(run)
        assert len(figures.stages(run, [scene]).axes) == 3
        with pytest.raises(UserError, match="no graph"):
            figures.graph(run)
    finally:
        run.module.net.pr = pr
    assert figures.has_graph(run)


def test_a_checkpoint_of_another_method_is_named(run, synthetic_smoke, tmp_path):
    from repose.tables import gallery_drpnet

    words = ["scale=smoke", "data=synthetic", f"data.root={synthetic_smoke}", "data.synthetic=null"]
    loaded = load("pinet/ochuman", words, find_paper=papers.get)
    with pytest.raises(UserError, match="a network of pinet; this notebook shows DRP-Net"):
        gallery_run.read_run(tmp_path / "best.ckpt", loaded, "", gallery_drpnet.METHOD)


def test_a_missed_person_is_shown_with_the_poses_of_others(run, scenes):
    scene = next(s for s in scenes if len(s.score_G) >= 2)
    n = len(scene.pose_N)
    missed = replace(scene, pose_N=np.full(n, -1), oks_SN={s: np.zeros(n) for s in scene.oks_SN})
    panel = figures.failures(run, [missed], 1).axes[1]
    assert panel.get_title(loc="left") == "missed"
    grey = tuple(v / 255 for v in gallery.GREY)
    assert grey in {line.get_color() for line in panel.lines if len(line.get_xdata()) == 2}


def test_a_box_without_extent_still_gives_a_picture(run, scenes):
    scene = scenes[0]
    point_K3 = np.where(np.arange(17)[:, None] == 0, [[5.0, 5.0, 2.0]], 0.0)
    tiny = replace(
        scene, box_N4=np.array([[5.0, 5.0, 5.0, 5.0]]), truth_NK3=point_K3[None], ann_id_N=scene.ann_id_N[:1],
        centre_NP2=scene.centre_NP2[:1], pose_N=np.array([-1]), oks_SN={s: np.zeros(1) for s in scene.oks_SN},
    )  # fmt: skip
    assert tiny.window_4() == pytest.approx([-0.5, -0.5, 15.5, 15.5])
    assert figures.failures(run, [tiny]).axes[0].images[0].get_array().shape[:2] == (16, 16)
