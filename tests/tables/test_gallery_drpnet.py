"""DRP-Net's figures, on a network trained for a moment: what is measured, ordered and drawn."""

import gallery_kit
import numpy as np
import pytest
import torch
from gallery_kit import no_windows  # noqa: F401 - a fixture of the whole file

from repose.errors import UserError
from repose.ops.oks import oks
from repose.tables import gallery
from repose.tables import gallery_drpnet as figures


@pytest.fixture(scope="module")
def run(synthetic_smoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    return figures.open_run(gallery_kit.settings(folder, synthetic_smoke, "drpnet/m"))


@pytest.fixture(scope="module")
def people(run):
    return figures.look(run)


def test_the_heading_names_the_run_and_its_data(run):
    assert run.heading == "DRP-Net-M, run, on synthetic" and not run.module.training


def test_everybody_is_looked_at_once_and_scored_like_the_metric(run, people):
    annotations = run.data.val_annotations
    wanted = annotations.ann_id_A[(annotations.num_keypoints_A > 0) & ~annotations.crowd_A]
    assert sorted(s.ann_id for s in people) == sorted(wanted.tolist())
    seen = people[0]
    row = int(np.flatnonzero(annotations.ann_id_A == seen.ann_id)[0])
    batch = run.data.val_set.sample([int(s) for s in run.data.val_set.boxes.subject_M].index(seen.ann_id))
    final_img = (
        np.c_[seen.final_K3[:, :2], np.ones(len(seen.final_K3))] @ batch.to_image_B23[0].numpy().T
    )  # input pixels to photograph pixels
    value = oks(
        torch.from_numpy(final_img[None]),
        torch.from_numpy(annotations.joint_AK3[row : row + 1]),
        torch.from_numpy(annotations.area_A[row : row + 1]),
        run.skeleton.sigmas,
    )
    assert seen.oks == pytest.approx(float(value[0, 0]), abs=1e-4)


def test_ids_choose_people_and_a_wrong_one_is_named(run, people):
    one = people[-1].image_id
    assert {s.image_id for s in figures.look(run, [one])} == {one}
    with pytest.raises(UserError, match=r"nobody to show in image 77777 of person_keypoints_val\.json"):
        figures.look(run, [77777])


def test_errors_are_distances_of_labelled_joints(people):
    seen = people[0]
    moved = seen.truth_K3[:, :2] + [3.0, 4.0]
    labelled = seen.truth_K3[:, 2] > 0
    assert seen.errors(moved)[labelled] == pytest.approx(5.0)
    assert np.isnan(seen.errors(moved)[~labelled]).all()


def test_the_heatmaps_place_the_joint_where_it_is(run, people):
    seen = people[0]
    canvas = run.module.canvas
    middle = (seen.heatmap_KHW.shape[-1] - 1) / 2
    cells = middle + (seen.truth_K3[:, :2] - seen.centre_K2) / canvas.stride
    assert seen.cell_K2 == pytest.approx(cells, abs=1e-4)


@pytest.mark.slow
def test_every_figure_is_drawn_and_saved_as_png_and_pdf(run, people, tmp_path):
    settings = gallery.Settings.of(figures=str(tmp_path))
    drawn = {
        "stages": figures.stages(run, figures.well_labelled(people, 2)),
        "tiles": figures.heatmap_tiles(run, people[0]),
        "errors": figures.coarse_against_refined(run, people),
        "failures": figures.failures(run, people, 4),
    }
    for name, figure in drawn.items():
        gallery.save(figure, name, settings)
        assert (tmp_path / f"{name}.png").stat().st_size > 5000 and (tmp_path / f"{name}.pdf").stat().st_size > 5000
    assert len(drawn["stages"].axes) == 10 and len(drawn["tiles"].axes) == 18
    titles = [axes.get_title(loc="left") for axes in drawn["failures"].axes]
    worst = sorted(s.oks for s in people)[:4]
    assert titles[1::2] == [f"OKS {value:.2f}" for value in worst]
    assert titles[0].startswith("1. person ")


def test_well_labelled_people_come_first(people):
    chosen = figures.well_labelled(people, len(people))
    share = [(s.truth_K3[:, 2] > 0).mean() >= 0.7 for s in chosen]
    assert share == sorted(share, reverse=True) and len(chosen) == len(people)


def test_a_checkpoint_that_is_not_there_is_one_line():
    with pytest.raises(UserError, match="checkpoint=nowhere: no such file or folder"):
        figures.open_run(gallery.Settings.of("nowhere"))
