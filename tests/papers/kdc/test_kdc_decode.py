"""Decoding: perfect maps give the people back, the graph's choices, every switch, the walk by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from kdc_kit import batch_of, headless, person

from repose.config import leaves, to_dict
from repose.metrics.mask_ap import photograph_masks
from repose.papers.kdc.config import Decode
from repose.papers.kdc.decode import Maps, decode, masks, merge, mirror_back, pgo_sigmas
from repose.papers.kdc.model import Outputs
from repose.papers.kdc.poseseg import centroids, score, sigmoid
from repose.skeleton import COCO17

MODULE = headless()


def people_of(module, *people, stride=8, noise=0.0):
    """Decoded people of one image, from perfect maps."""
    maps = module.oracle(batch_of(list(people), masks="full"), stride)
    if noise:
        g = torch.Generator().manual_seed(0)
        kc = maps.outputs.keycentroid_BJHW
        kc = kc + noise / module.frame.radius * torch.randn(kc.shape, generator=g)
        maps = maps._replace(outputs=maps.outputs._replace(keycentroid_BJHW=kc))
    return module.decode(maps)[0]


@pytest.mark.parametrize(("stride", "most"), [(1, 0.05), (8, 0.6), (16, 2.5)])
def test_one_person_comes_back(stride, most):
    """Dense maps are exact; at stride 16 a disk's rim is interpolated between sure cells."""
    truth = person(120.3, 60.7, 300)
    found = people_of(MODULE, truth, stride=stride)
    assert found.n == 1
    assert (found.joint_NK3[0, :, :2] - truth[:, :2]).norm(dim=-1).max() < most
    assert found.joint_NK3[0, :, 2].min() > 0.99 and found.score_N.item() > 0.99


def test_two_people_40_px_apart():
    a, b = person(100, 100, 200), person(140, 100, 200)
    found = people_of(MODULE, a, b, stride=4)
    assert found.n == 2
    order = found.joint_NK3[:, 0, 0].argsort()
    for n, truth in zip(order.tolist(), (a, b), strict=True):
        assert (found.joint_NK3[n, :, :2] - truth[:, :2]).norm(dim=-1).max() < 1


@pytest.mark.parametrize(
    ("settings", "people"),
    [([], 1), (["model.graph=tree"], 3), (["model.graph=tree", "decode.strict=true"], 4)],
)
def test_a_missing_nose(settings, people):
    """The tree falls apart: both halves of the body and the face; in strict mode both halves of the face."""
    assert people_of(headless(*settings), person(120, 40, 350, "nose"), stride=4).n == people


def test_a_joint_that_was_not_found_keeps_nobody_away():
    """Strict: the first person has no nose, which is put at their mean point; just there is the second one's nose."""
    first = person(100, 20, 350, "nose")
    second = torch.zeros(17, 3)
    second[COCO17.index("nose")] = torch.cat([first[first[:, 2] > 0, :2].mean(0), torch.tensor([2.0])])
    module = headless("decode.strict=true", "decode.min_score=0.0")
    assert people_of(module, first, stride=4).n == 1
    assert people_of(module, first, second, stride=4).n == 2


@pytest.mark.parametrize("graph", ["full", "tree", "limbs"])
def test_a_missing_hip_orphans_its_leg(graph):
    """The knee is one person's, the rest another's; what both propose counts for the better one alone."""
    found = people_of(headless(f"model.graph={graph}"), person(120, 40, 350, "left_hip"), stride=4)
    knee = COCO17.index("left_knee")
    truth = person(120, 40, 350)[knee, :2]
    assert found.n == 2
    assert ((found.joint_NK3[:, knee, :2] - truth).norm(dim=-1) < 1).sum() == 1
    assert found.score_N[0] > 0.8 and found.score_N[1] < 0.3


def test_nobody():
    found = people_of(MODULE)
    assert found.joint_NK3.shape == (0, 17, 3) and found.score_N.shape == (0,)
    assert found.mask_NHW is not None and found.mask_NHW.shape == (0, 401, 401)


def test_masks_are_disjoint_and_the_peoples():
    people = [person(20, 60, 300), person(150, 100, 250), person(270, 40, 320)]
    batch = batch_of(people, masks="full")
    found = MODULE.decode(MODULE.oracle(batch, 8))[0]
    assert found.n == 3 and found.mask_NHW is not None and found.extra is not None
    assert (found.mask_NHW > 0).sum(0).max() == 1 and found.mask_NHW.max() <= 1
    order = found.joint_NK3[:, 0, 0].argsort()
    truth = batch.people.mask_NHW
    assert truth is not None
    for n, t in zip(order.tolist(), truth.bool(), strict=True):
        mine = found.mask_NHW[n] >= 0.5
        assert (mine & t).sum() / (mine | t).sum() > 0.85  # neighbours' masks are rectangles that overlap
    assert (found.extra["mask_score_N"] <= found.score_N).all() and found.extra["mask_score_N"].min() > 0.5


def test_masks_are_thresholded_at_the_photographs_size():
    """A disk of 53 px at the input, in a photograph 1.6 times as large: its edge is where phi is 1/2 (spec 5.7)."""
    t = (torch.arange(401.0) - 200) / 26.5
    radius_HW = (t[:, None].square() + t.square()).sqrt()
    size = 641
    u = (torch.arange(float(size)) - 320) / (26.5 * 1.6)
    truth = (u[:, None].square() + u.square() <= 1).numpy()
    batch = batch_of([person(120, 60, 300)], masks="full")
    maps = MODULE.oracle(batch, 1)
    seg = (1 - radius_HW) * 26.5  # a logit that falls by 1 per pixel
    maps = maps._replace(outputs=maps.outputs._replace(seg_B1HW=seg[None, None]))
    centre, beta = torch.full((1, 2), 200 / MODULE.frame.span), torch.full((1,), 1e-3)
    outputs = maps.outputs._replace(embed_B2HW=torch.zeros(1, 2, 401, 401))
    field, _ = masks(maps._replace(outputs=outputs), 0, centre, beta, MODULE.frame, MODULE.cfg.decode)
    matrix = np.array([[1.6, 0, 0], [0, 1.6, 0]])

    def overlap(mask_NHW):
        (mine,) = photograph_masks(mask_NHW, matrix, (size, size))
        return (mine & truth).sum() / (mine | truth).sum()

    binary = (field >= 0.5).numpy()
    assert overlap(field.numpy()) > 0.995 > overlap(binary) + 0.005


def test_switches_cover_the_settings():
    """Every leaf of `decode` is changed below."""
    assert {key for key, _ in leaves(to_dict(Decode()))} == {key for key, _ in SWITCHES}


SWITCHES = [
    ("vote_threshold", 0.9),
    ("tau", 0.05),
    ("nms_radius", 45.0),
    ("match_radius", 1.0),
    ("refine_radius", 0.9),
    ("refine_steps", 0),
    ("strict", True),
    ("max_people", 1),
    ("min_score", 0.9),
    ("masks", False),
    ("seg_threshold", 0.9),
    ("mask_threshold", 0.9),
    ("min_mask", 40_000),
    ("pgo.sigma_hvk", 3.0),
    ("pgo.sigma_lvk", 3.0),
    ("pgo.unit", "cell"),
    ("igo.sigma", 5.0),
    ("igo.mode", "bandwidth"),
]


def signature(pose):
    mask = torch.zeros(0) if pose.mask_NHW is None else pose.mask_NHW.sum((1, 2)).float()
    extra = torch.zeros(0) if pose.extra is None else pose.extra["mask_score_N"]
    return torch.cat([pose.joint_NK3.flatten(), pose.score_N, mask, extra])


@pytest.fixture(scope="module")
def noisy():
    """Three people, one of them without a nose, with noise on all vectors and soft heatmaps."""
    people = [person(20, 60, 300), person(60, 80, 290, "nose", "left_wrist"), person(250, 40, 320)]
    maps = MODULE.oracle(batch_of(people), 8)
    g = torch.Generator().manual_seed(0)
    out = maps.outputs
    return maps._replace(
        outputs=out._replace(
            heatmap_BKHW=out.heatmap_BKHW / 8 + 0.5 * torch.randn(out.heatmap_BKHW.shape, generator=g),
            keycentroid_BJHW=out.keycentroid_BJHW + 4 / 32 * torch.randn(out.keycentroid_BJHW.shape, generator=g),
            midrange_BEHW=out.midrange_BEHW + 20 / 32 * torch.randn(out.midrange_BEHW.shape, generator=g),
        )
    )


@pytest.mark.parametrize(("key", "value"), SWITCHES)
def test_every_switch_changes_the_decode(noisy, key, value):
    cfg = Decode()
    *parent, name = key.split(".")
    other = replace(cfg, **{parent[0]: replace(getattr(cfg, parent[0]), **{name: value})} if parent else {name: value})
    start, changed = (signature(decode(noisy, MODULE.frame, MODULE.cfg.model, c)[0]) for c in (cfg, other))
    assert torch.isfinite(changed).all()
    assert start.shape != changed.shape or not torch.equal(start, changed)


def test_a_tenth_of_a_pixel_is_no_instance_smoothing(noisy):
    cfg = Decode()
    start, same = (
        signature(decode(noisy, MODULE.frame, MODULE.cfg.model, replace(cfg, igo=replace(cfg.igo, sigma=s)))[0])
        for s in (0.1, 0.0)
    )
    assert torch.equal(start, same)


@pytest.mark.parametrize(
    "settings",
    [
        ["model.use_kc=false"],
        ["model.use_kc=false", "model.khdr=false"],
        ["model.khdr=false"],
        ["model.radius=16"],
        ["model.radius=8"],
        ["model.graph=limbs"],
    ],
)
def test_table_7_and_figure_7_decode(settings):
    """Every form of keypoint head gives three people apart back, to a few pixels."""
    people = [person(10, 60, 300), person(140, 30, 320), person(270, 50, 300)]
    found = people_of(headless(*settings), *people, stride=8)
    assert found.n == 3
    best = [(found.joint_NK3[:, :, :2] - t[:, :2]).norm(dim=-1).mean(-1).min().item() for t in people]
    assert max(best) < 6


@pytest.mark.parametrize("khdr", [True, False])
def test_without_keycentroids_improbable_pixels_make_no_peaks(khdr):
    """A background of p = 0.03 is above tau, but below the voting threshold."""
    module = headless("model.use_kc=false", f"model.khdr={khdr}")
    maps = module.oracle(batch_of([]), 8)
    noise = torch.randn(maps.outputs.heatmap_BKHW.shape, generator=torch.Generator().manual_seed(0))
    outputs = maps.outputs._replace(heatmap_BKHW=-3.5 + 0.1 * noise)
    assert outputs.heatmap_BKHW.sigmoid().max() < 0.05
    assert module.decode(maps._replace(outputs=outputs))[0].n == 0


def test_grouping_by_embedding():
    """Peaks whose embeddings agree are one person; a missing joint has confidence 0."""
    people = [person(10, 60, 300), person(250, 50, 300, "nose")]
    found = people_of(headless("model.grouping=embedding"), *people, stride=4)
    assert found.n == 2
    order = found.joint_NK3[:, 5, 0].argsort()
    assert (found.joint_NK3[order[0], :, :2] - people[0][:, :2]).norm(dim=-1).max() < 1
    assert found.joint_NK3[order[1], 0, 2] == 0 and found.joint_NK3[order[1], 1:, 2].min() > 0.9


def test_pgo_units():
    frame, cfg = MODULE.frame, Decode()
    assert set(pgo_sigmas(frame, 8, cfg)) == {0.4, 0.9}
    assert pgo_sigmas(frame, 8, cfg)[COCO17.index("left_wrist")] == 0.4
    cell = replace(cfg, pgo=replace(cfg.pgo, unit="cell"))
    assert set(pgo_sigmas(frame, 8, cell)) == {0.4 * 8, 0.9 * 8}


def test_scores_count_shared_joints_once():
    """The worse of two people has 2 of 17 joints to itself: 2 / 17 of its confidence."""
    a = np.concatenate([np.random.default_rng(0).uniform(0, 400, (17, 2)), np.full((17, 1), 0.9)], 1)
    b = a.copy()
    b[:, 2] = 0.8
    b[:2, 0] += 11
    people, value = score(np.stack([b, a]), MODULE.frame, Decode())
    assert value.tolist() == pytest.approx([0.9, 0.8 * 2 / 17])
    assert np.array_equal(people[0], a)
    assert len(score(np.stack([b, a]), MODULE.frame, replace(Decode(), min_score=0.2))[1]) == 1


def test_a_joint_that_was_not_found_takes_nothing():
    """It lies anywhere (here on the other's joint) with confidence 0: the worse person keeps that joint."""
    a = np.concatenate([np.random.default_rng(0).uniform(0, 400, (17, 2)), np.full((17, 1), 0.9)], 1)
    b = a + np.array([50.0, 0, -0.2])
    b[0, :2], a[0, 2] = a[0, :2], 0
    _, value = score(np.stack([a, b]), MODULE.frame, Decode())
    assert value.tolist() == pytest.approx([0.9 * 16 / 17, 0.7])


class Fixed:
    """A reader of embeddings that all lie at (0.5, 0.5) but joint 3's; sigma of joint k grows with k."""

    embed, bandwidth = 0, 2
    attention_K = np.zeros(17)

    def many(self, point):
        value = np.zeros((len(point), 3))
        value[:, :2] = 0.5 - point / 400
        value[3, :2] += 0.4
        value[:, 2] = np.log(50.0 - np.arange(17))
        return value


def test_centroids_leave_out_what_disagrees():
    """Keypoints of one confidence whose embeddings agree but for one: that one is no part of the centre."""
    joint = np.concatenate([np.random.default_rng(0).uniform(0, 400, (1, 17, 2)), np.full((1, 17, 1), 0.9)], 2)
    joint[0, 5, 2] = 0.1  # not high-confidence
    centre, beta = centroids(joint, Fixed(), MODULE.frame, MODULE.cfg.model)  # type: ignore[arg-type]
    np.testing.assert_allclose(centre, [[0.5, 0.5]])
    left = [50.0 - k for k in range(17) if k not in (3, 5)]
    np.testing.assert_allclose(beta, [np.exp(np.mean(np.log(left)))])


def test_keypoint_centroids_are_weighted_keypoints():
    """As in training: w = softmax(a_k + log p_k), here proportional to exp(a_k) p_k, over all that were found."""
    model = replace(MODULE.cfg.model, center_mode="keypoint")
    joint = np.concatenate([np.random.default_rng(0).uniform(0, 400, (1, 17, 2)), np.full((1, 17, 1), 0.5)], 2)
    joint[0, 7:, 2] = 0
    reader = Fixed()
    reader.attention_K = np.where(np.arange(17) == 2, np.log(3.0), 0.0)
    centre, beta = centroids(joint, reader, MODULE.frame, model)  # type: ignore[arg-type]
    weight = np.array([1.0, 1, 3, 1, 1, 1, 1]) / 9
    np.testing.assert_allclose(centre[0], weight @ joint[0, :7, :2] / 400)
    np.testing.assert_allclose(beta, [np.exp(weight @ np.log(50.0 - np.arange(7)))])


@pytest.mark.parametrize("mode", ["static", "dynamic", "keypoint"])
def test_every_centre_gives_the_masks_back(mode):
    """Perfect maps of each kind of centre are decoded by the same kind."""
    module = headless(f"model.center_mode={mode}")
    batch = batch_of([person(20, 60, 300), person(250, 40, 320)], masks="full")
    found = module.decode(module.oracle(batch, 8))[0]
    assert found.n == 2 and found.mask_NHW is not None and batch.people.mask_NHW is not None
    for n, t in zip(found.joint_NK3[:, 0, 0].argsort().tolist(), batch.people.mask_NHW.bool(), strict=True):
        mine = found.mask_NHW[n] >= 0.5
        assert (mine & t).sum() / (mine | t).sum() > 0.95


def test_sigmoid_has_no_overflow():
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0, 0.5, 1]


def random_maps(width=401):
    g = torch.Generator().manual_seed(1)
    cells = -(-width // 8)
    maps = [torch.randn(1, c, 51, cells, generator=g) for c in (17, 34, 80, 1, 2, 1)]
    return Maps(Outputs(*maps, torch.zeros(17)), 8, (401, width))


def test_flip_twice_is_the_identity():
    maps = random_maps()
    twice = mirror_back(mirror_back(maps, MODULE.frame), MODULE.frame)
    assert all(torch.equal(a, b) for a, b in zip(maps.outputs, twice.outputs, strict=True))


def test_a_mirrored_persons_maps_are_the_persons():
    """Targets of a mirrored person, brought back, are the person's own, embedding centres too."""
    truth = person(120, 60, 300)
    mirrored = truth[list(COCO17.flip_index)] * torch.tensor([-1.0, 1, 1]) + torch.tensor([400.0, 0, 0])
    own, other = (MODULE.oracle(batch_of([t], masks="full"), 8) for t in (truth, mirrored))
    back = mirror_back(other, MODULE.frame)
    for name, a, b in zip(Outputs._fields, own.outputs, back.outputs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-4, msg=name)
    both = merge([own, back])
    torch.testing.assert_close(both.outputs.heatmap_BKHW, own.outputs.heatmap_BKHW, atol=1e-3, rtol=1e-4)


def test_a_smaller_frame_decodes_alike():
    """Lengths follow the input's side: the same people at half the size give the same people."""
    from kdc_kit import config

    half = headless("data.input_size=[201,201]", "data.test_multiple=201")
    assert config().decode == half.cfg.decode and half.frame.radius == 16
    truth = person(120, 60, 300)
    small = truth * torch.tensor([0.5, 0.5, 1.0])
    found = half.decode(half.oracle(batch_of([small], masks="full", side=201), 4))[0]
    assert found.n == 1
    assert (found.joint_NK3[0, :, :2] - small[:, :2]).norm(dim=-1).max() < 0.6
