"""CGANet's single model as a whole: steps of the test, flip test, masks, bad input."""

from dataclasses import replace

import pytest
import torch
from drawn_batch import drawn_batch, without_people
from torch import tensor

from repose import papers
from repose.config import load
from repose.data.masks import refuse_without_masks
from repose.engine.module import View
from repose.errors import UserError
from repose.geometry import mirror
from repose.papers.cganet.config import Decode
from repose.papers.cganet.decode import (
    Detections,
    Outputs,
    alleviated,
    decode,
    detect,
    extend,
    extend_many,
    joints,
    mirror_boxes,
    paste,
    poses,
    see,
)
from repose.papers.cganet.model import Maps
from repose.papers.cganet.module import CGANetModule, cganet_module
from repose.papers.cganet.targets import from_roi
from repose.skeleton import COCO17


def module(*settings, seed=0):
    cfg = load("cganet/coco", ["scale=smoke", *settings], find_paper=papers.get).cfg
    torch.manual_seed(seed)
    made = cganet_module(cfg, COCO17)
    assert isinstance(made, CGANetModule)
    return made


@pytest.fixture(scope="module")
def batch():
    return drawn_batch(COCO17, 2, (128, 128), 2)


def maps(b=1, h=32, w=24):
    """Nothing anywhere."""
    return Maps(
        torch.full((b, 1, h, w), 0.01),
        torch.zeros(b, 2, h, w),
        torch.zeros(b, 2, h, w),
        torch.zeros(b, 1, h, w),
        torch.zeros(b, 1, h, w),
    )


PLAIN = Decode(ambiguity=False, extend="none")


def put(m, b, x, y, score, size, off=(0.25, 0.75), line=(1.0, 1.0)):
    m.hm_B1HW[b, 0, y, x] = score
    m.wh_B2HW[b, :, y, x] = tensor(size)
    m.off_B2HW[b, :, y, x] = tensor(off)
    m.line_x_B1HW[b, 0, y, x], m.line_y_B1HW[b, 0, y, x] = line


def test_detect_decodes_what_encode_stores():
    m = maps(2)
    put(m, 0, 5, 7, 0.6, (4.0, 10.0))
    put(m, 0, 15, 20, 0.9, (6.0, 8.0))
    put(m, 1, 3, 3, 0.5, (2.0, 2.0))
    found = detect(m, Decode(ambiguity=False, top=2))
    assert found.owner_N.tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(found.score_N[:3], tensor([0.9, 0.6, 0.5]))
    torch.testing.assert_close(found.box_cell_N4[0], tensor([12.25, 16.75, 18.25, 24.75]))
    torch.testing.assert_close(found.box_cell_N4[1], tensor([3.25, 2.75, 7.25, 12.75]))


def test_more_people_than_top():
    m = maps()
    for i in range(6):
        put(m, 0, 3 * i + 2, 10, 0.3 + 0.1 * i, (2.0, 2.0))
    found = detect(m, Decode(ambiguity=False, top=4))
    torch.testing.assert_close(found.score_N, tensor([0.8, 0.7, 0.6, 0.5]))


def test_ambiguity_alleviation():
    """Eq. 4 with alpha 1, beta 0.5: .8 * sqrt(.9 * .8) = .6788; a duplicate whose M_y is .1: .24."""
    m = maps()
    put(m, 0, 5, 7, 0.8, (4.0, 10.0), line=(0.9, 0.8))
    put(m, 0, 9, 7, 0.8, (4.0, 10.0), line=(0.9, 0.1))
    found = alleviated(m, 1.0, 0.5)[0, 0, 7]
    assert found[5].item() == pytest.approx(0.6788, abs=1e-4) and found[9].item() == pytest.approx(0.24, abs=1e-4)
    assert detect(m, Decode(top=1)).box_cell_N4[0, 0].item() == pytest.approx(3.25)


def test_sizes_of_nothing_become_a_pixel():
    m = maps()
    put(m, 0, 5, 7, 0.8, (-3.0, 0.0))
    found = detect(m, replace(PLAIN, top=1))
    torch.testing.assert_close(found.box_cell_N4[0, 2:] - found.box_cell_N4[0, :2], tensor([0.25, 0.25]))


def test_extend_in_input_pixels():
    m = maps()
    found = Detections(tensor([[4.0, 6, 14, 26]]), torch.zeros(1, dtype=torch.int64), torch.ones(1))
    torch.testing.assert_close(extend(found, m, PLAIN), tensor([[16.0, 24, 56, 104]]))
    torch.testing.assert_close(
        extend(found, m, replace(PLAIN, extend="fixed", fixed=0.1)), tensor([[12.0, 16, 60, 112]])
    )
    torch.testing.assert_close(extend(found, m, Decode()), tensor([[16.0, 24, 56, 104]]), atol=0.01, rtol=0)
    lit = m._replace(line_x_B1HW=torch.ones_like(m.hm_B1HW), line_y_B1HW=torch.ones_like(m.hm_B1HW))
    torch.testing.assert_close(extend(found, lit, Decode()), tensor([[12.4, 16.8, 59.6, 111.2]]), atol=0.01, rtol=0)


@torch.no_grad()
def test_a_grid_of_extensions_looks_at_the_image_once(batch):
    """Pyramid and heads run once per image, the ROIGuider on the unique boxes alone (Table 2)."""
    m = module().eval()
    calls = {"pyramid": 0, "maps": 0, "boxes": 0}
    m.net.backbone.register_forward_hook(lambda *_: calls.__setitem__("pyramid", calls["pyramid"] + 1))
    m.net.heads["hm"][0].register_forward_hook(lambda *_: calls.__setitem__("maps", calls["maps"] + 1))
    m.net.branch.register_forward_hook(lambda _, i, o: calls.__setitem__("boxes", calls["boxes"] + len(i[1])))
    scene = see(m.net, [m.normalise(batch.image_B3HW)], [False])
    found = detect(scene.maps, m.cfg.decode)
    ratio, thre = tensor([0.05, 0.09, 0.15, 0.15]), tensor([0.99, 0.99, 0.05, 0.05])  # nothing, nothing, twice the same
    many = extend_many(found, scene.maps, ratio, thre, m.cfg.decode) * 4
    n = len(found.owner_N)
    key = torch.cat([found.owner_N.repeat(4)[:, None].float(), (many.flatten(0, 1) * 16).round()], 1)
    unique, back = key.unique(dim=0, return_inverse=True)
    assert n < len(unique) <= 3 * n
    box, owner = unique[:, 1:] / 16, unique[:, 0].long()
    heatmap = poses(m.net, scene, box, owner, COCO17.flip_index)
    assert calls == {"pyramid": 1, "maps": 1, "boxes": len(unique)}
    grid = joints(heatmap, box, m.cfg.decode)[back].view(4, n, 17, 3)
    assert torch.equal(grid[2], grid[3])
    alone = joints(poses(m.net, scene, many[3], found.owner_N, COCO17.flip_index), many[3], m.cfg.decode)
    assert ((grid[3] - alone)[..., :2].norm(dim=-1) < 0.5).float().mean() > 0.95


@torch.no_grad()
def test_infer_runs_everything_once_per_view(batch):
    m = module("test.flip=true").eval()
    calls = []
    m.net.backbone.register_forward_hook(lambda *_: calls.append("pyramid"))
    m.net.branch.register_forward_hook(lambda *_: calls.append("boxes"))
    m.evaluate([batch])
    assert calls == ["pyramid", "pyramid", "boxes", "boxes"]


def test_joints_of_a_heatmap_in_its_box():
    heat = torch.zeros(1, 2, 16, 16)
    heat[0, 0, 4, 6] = 0.9
    heat[0, 0, 4, 7] = 0.5
    heat[0, 1, 0, 15] = 0.4
    box = tensor([[10.0, 20, 42, 84]])
    found = joints(heat, box, Decode())[0]
    # cells are 2x4 pixels: x = 10 + (6.25 + .5) * 2, y = 20 + 4.5 * 4; the corner stays where it is
    torch.testing.assert_close(found, tensor([[23.5, 38.0, 0.9], [41.0, 22.0, 0.4]]))
    torch.testing.assert_close(joints(heat, box, Decode(peak="argmax"))[0, 0, :2], tensor([23.0, 38.0]))


def test_paste_is_the_inverse_of_cutting():
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:6, 4:] = 0.9
    found = paste(mask, tensor([[-0.5, -0.5, 15.5, 15.5], [4.5, 4.5, 12.5, 12.5]]), (24, 20))
    assert found.shape == (2, 20, 24) and found.dtype == torch.uint8
    rows, columns = found[0].nonzero().unbind(1)
    assert rows.unique().tolist() == list(range(4, 12)) and columns.unique().tolist() == list(range(8, 16))
    rows, columns = found[1].nonzero().unbind(1)
    assert rows.unique().tolist() == [7, 8, 9, 10] and columns.unique().tolist() == [9, 10, 11, 12]
    assert paste(mask[:0], torch.zeros(0, 4), (24, 20)).shape == (0, 20, 24)
    strange = tensor([[50.0, 50, 60, 60], [3.0, 3, 3, 3]])
    assert not paste(mask, strange, (24, 20))[0].any()


def test_decode_scores():
    heat = torch.full((2, 3, 8, 8), 0.5)
    found = Detections(torch.rand(2, 4), tensor([0, 1]), tensor([0.8, 0.4]))
    outputs = Outputs(found, tensor([[0.0, 0, 8, 8], [0, 0, 8, 8]]), heat, 3, (32, 32))
    people = decode(outputs, PLAIN, 3, masks=False)
    assert [p.n for p in people] == [1, 1, 0]
    torch.testing.assert_close(people[0].score_N, tensor([0.4]))
    torch.testing.assert_close(decode(outputs, replace(PLAIN, score="box"), 3, False)[1].score_N, tensor([0.4]))
    torch.testing.assert_close(decode(outputs, replace(PLAIN, score="box"), 3, False)[0].score_N, tensor([0.8]))


def test_mirrored_boxes():
    box = tensor([[10.0, 20, 30, 50]])
    there = mirror_boxes(box, 128)
    torch.testing.assert_close(there, tensor([[94.0, 20, 114, 50]]))
    torch.testing.assert_close(mirror_boxes(there, 128), box)
    left, right = from_roi(tensor([[[3.0, 1]]]), box, 8), from_roi(tensor([[[4.0, 1]]]), there, 8)
    torch.testing.assert_close(124 - left[0, 0, 0], right[0, 0, 0])


@torch.no_grad()
def test_flip_test_averages_what_is_mirrored_back(batch):
    """Two views, the second a mirror: its maps and heatmaps come back mirrored, offsets are the first's."""
    m = module().eval()
    image = m.normalise(batch.image_B3HW)
    turned = mirror(image, 4)
    both = see(m.net, [image, turned], [False, True])
    plain, other = see(m.net, [image], [False]), see(m.net, [turned], [False])
    torch.testing.assert_close(both.maps.hm_B1HW, (plain.maps.hm_B1HW + other.maps.hm_B1HW.flip(-1)) / 2)
    torch.testing.assert_close(both.maps.wh_B2HW, (plain.maps.wh_B2HW + other.maps.wh_B2HW.flip(-1)) / 2)
    assert torch.equal(both.maps.off_B2HW, plain.maps.off_B2HW)
    box, owner = tensor([[10.0, 20, 60, 100], [40, 0, 120, 110]]), tensor([0, 1])
    swap = list(COCO17.flip_index)
    one = poses(m.net, plain, box, owner, swap)
    two = poses(m.net, other, mirror_boxes(box, 128), owner, swap).flip(-1)[:, swap]
    torch.testing.assert_close(poses(m.net, both, box, owner, swap), (one + two) / 2)


@pytest.fixture(scope="module")
def masked(batch):
    mask = torch.zeros(4, 128, 128, dtype=torch.uint8)
    for n, (x1, y1, x2, y2) in enumerate(batch.people.box_N4.round().int().tolist()):
        mask[n, y1:y2, x1:x2] = 1
    return replace(batch, people=replace(batch.people, mask_NHW=mask))


def test_masks_train_and_come_at_the_inputs_size(masked):
    m = module("model.task=masks", "data.masks=full", "decode.top=5")
    targets = m.encode(masked)
    found = m.losses(m.forward_train(m.normalise(masked.image_B3HW), masked, targets), targets)
    assert "mask" in found and "keypoint" not in found
    m.combine(found).backward()
    assert all(p.grad is not None and p.grad.any() for p in m.net.parameters())
    with torch.no_grad():
        evaluated = m.eval().evaluate([masked])
    for pose in evaluated.poses:
        assert pose.mask_NHW is not None and pose.mask_NHW.shape == (pose.n, 128, 128) and pose.n <= 5
        assert pose.joint_NK3.shape == (pose.n, 17, 3) and not pose.joint_NK3[..., 2].any()


def test_mask_network_flips(masked):
    with torch.no_grad():
        evaluated = module("model.task=masks", "data.masks=full", "test.flip=true").eval().evaluate([masked])
    assert all(p.mask_NHW is not None for p in evaluated.poses)


def test_masks_missing_stop_mask_training_alone(batch):
    with pytest.raises(UserError, match=r"set data\.masks=full"):
        module("model.task=masks", "data.masks=full").encode(batch)
    with pytest.raises(UserError, match=r"set data\.masks=full"):
        module("model.task=masks", "data.masks=none")
    assert len(module().encode(batch).rois.weight_R) == 4


@pytest.mark.parametrize("masks", [[False, False], [False, True], [True, False]])
def test_a_file_without_masks_stops_mask_training(masks):
    """The one mask of the second case is a crowd's neighbour; of the third, the crowd's own."""

    class File:
        file = "people.json"
        crowd_A = (True, False)

        def has_mask(self, row):
            return masks[row]

    if masks[1]:
        refuse_without_masks(File())
    else:
        with pytest.raises(UserError, match=r"people\.json: nobody has a `segmentation`"):
            refuse_without_masks(File())


@pytest.mark.parametrize("hw", [(3, 2), (1, 1), (5, 70)])
@torch.no_grad()
def test_an_image_smaller_than_the_stride(hw):
    m = module().eval()
    image = torch.zeros(1, 3, *hw)
    batch = without_people(drawn_batch(COCO17, 1, (128, 128)), 17)
    outputs = m.infer([View(image, replace(batch, image_B3HW=image.byte()), False, 1.0)])
    (pose,) = m.decode(outputs)
    assert pose.n >= 1 and torch.isfinite(pose.joint_NK3).all()


def test_one_scale_only(batch):
    m = module().eval()
    image = m.normalise(batch.image_B3HW)
    with pytest.raises(UserError, match=r"test_scales"):
        m.infer([View(image, batch, False, 1.0), View(image, batch, False, 0.5)])


def test_detected_boxes_join_the_training_late(batch, monkeypatch):
    m = module("loss.roi_source=pred_mix", "loss.roi_pred_from=0.5")
    people = batch.people
    found = Detections(people.box_N4 / 4, people.owner_N, torch.ones(4))
    monkeypatch.setattr("repose.papers.cganet.module.detect", lambda *_: found)
    image = m.normalise(batch.image_B3HW)
    late = m.encode(batch)
    assert late.progress == 1.0  # outside a training
    assert len(m.forward_train(image, batch, late).person_R) == 8
    assert len(m.forward_train(image, batch, late._replace(progress=0.4)).person_R) == 4


def test_read_outs(batch):
    m = module().eval()
    people = batch.people
    found = Detections(people.box_N4[:3] / 4, people.owner_N[:3], torch.ones(3))
    outputs = Outputs(found, people.box_N4[:3] + tensor([-2.0, 0, 2, 0]), torch.zeros(3, 17, 8, 8), 2, (128, 128))
    sums = m.read_outs(outputs, batch, m.decode(outputs))
    assert [float(v) for v in sums["boxes_found"]] == [3, 4]
    assert [float(v) for v in sums["extension_px"]] == [12, 12]


def test_weights_are_the_papers():
    assert module().weights == {
        "det": 1.0,
        "wh": 0.1,
        "off": 1.0,
        "line_x": 1.0,
        "line_y": 1.0,
        "keypoint": 3.0,
        "mask": 3.0,
    }


def test_every_parameter_of_the_other_graphs_is_trained(batch):
    """No Centre Line Branch, the pooler, heads on every stage."""
    fpn = ["model.backbone.kind=fpn", "model.backbone.name=resnet18", "model.backbone.fpn_width=16"]
    bare = ["model.centre_lines=false", "decode.ambiguity=false", "decode.extend=none"]
    for settings, idle in (
        (["model.roi.intermediate=true"], 0),
        (bare, 0),
        ([*fpn, *bare, "model.roi.kind=pooler", "model.roi.pooler_width=8"], None),
        ([*fpn, *bare], None),
    ):
        m = module(*settings)
        targets = m.encode(batch)
        m.combine(m.losses(m.forward_train(m.normalise(batch.image_B3HW), batch, targets), targets)).backward()
        dead = [n for n, p in m.net.named_parameters() if p.grad is None or not p.grad.any()]
        if idle == 0:
            assert not dead
        else:  # levels that no box is pooled from (P5 always, with the ROIGuider)
            assert all(
                name.startswith(("backbone.fpn.layer_blocks", "backbone.fpn.inner_blocks", "backbone.body"))
                for name in dead
            )
