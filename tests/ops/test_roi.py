"""ROI sampling: where each bin looks."""

import torch

from repose.ops.roi import roi_sample


def ramp(height: int, width: int) -> torch.Tensor:
    """A map whose value at cell (x, y) is x + 100 y: sampling it gives positions."""
    return (torch.arange(width)[None] + 100 * torch.arange(height)[:, None]).float()[None, None]


def box(centre_cell, size, stride):
    c = torch.tensor(centre_cell) * stride
    return torch.cat([c - stride * size / 2, c + stride * size / 2])[None]


def test_bin_j_is_the_map_at_c_plus_j_minus_half_the_side():
    for stride in (4, 8):
        for size in (5, 7):
            got = roi_sample(ramp(40, 30), box([12.3, 20.6], size, stride), torch.tensor([0]), stride, (size, size))[
                0, 0
            ]
            j = torch.arange(size) - (size - 1) / 2
            want = (12.3 + j)[None, :] + 100 * (20.6 + j)[:, None]
            torch.testing.assert_close(got, want, atol=2e-3, rtol=0)


def test_outside_the_map_is_zero():
    ones = torch.ones(1, 1, 10, 10)
    got = roi_sample(ones, box([0.0, 5.0], 7, 4), torch.tensor([0]), 4, (7, 7))[0, 0]
    assert torch.equal(got[:, :2], torch.zeros(7, 2))  # cells -3 and -2
    assert torch.equal(got[:, 3:], torch.ones(7, 4))  # cells 0 to 3


def test_owner_names_the_image():
    two = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    got = roi_sample(two, box([4.0, 4.0], 3, 4).expand(3, 4), torch.tensor([1, 0, 1]), 4, (3, 3))
    assert got.shape == (3, 3, 3, 3)
    assert got.mean((1, 2, 3)).tolist() == [1, 0, 1]


def test_mirrored_map_gives_the_mirrored_region_exactly():
    torch.manual_seed(0)
    m = torch.randn(1, 4, 16, 12)
    c = torch.tensor([3.37, 8.9])
    plain = roi_sample(m, box(c.tolist(), 7, 4), torch.tensor([0]), 4, (7, 7))
    there = roi_sample(m.flip(-1), box([11 - 3.37, 8.9], 7, 4), torch.tensor([0]), 4, (7, 7))
    torch.testing.assert_close(there.flip(-1), plain, atol=1e-5, rtol=0)


def test_maps_of_two_strides_see_the_same_place():
    fine = ramp(40, 40)
    coarse = fine[..., ::2, ::2]  # cell i of stride 8 is cell 2 i of stride 4
    b = box([20.0, 16.0], 6, 4)
    f = roi_sample(fine, b, torch.tensor([0]), 4, (3, 3), samples=2)
    c = roi_sample(coarse, b, torch.tensor([0]), 8, (3, 3))
    torch.testing.assert_close(f, c, atol=1e-3, rtol=0)


def test_no_gradient_for_boxes_and_some_for_the_map():
    m = torch.randn(1, 2, 8, 8, requires_grad=True)
    b = box([4.0, 4.0], 3, 4).requires_grad_()
    roi_sample(m, b, torch.tensor([0]), 4, (3, 3)).sum().backward()
    assert b.grad is None
    assert m.grad is not None and m.grad.abs().sum() > 0


def test_half_precision_maps_keep_float32_coordinates():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = roi_sample(ramp(4, 60).bfloat16(), box([50.3, 2.0], 1, 4), torch.tensor([0]), 4, (1, 1))
    assert got.dtype == torch.float32
    assert abs(got.item() - 250.3) < 0.01


def test_no_boxes():
    assert roi_sample(ramp(8, 8), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 4, (7, 7)).shape == (0, 1, 7, 7)


def test_training_on_the_cpu_gives_roi_aligns_values_and_gradients():
    torch.manual_seed(0)
    boxes = torch.cat([box([torch.rand(1).item() * 14 - 1, torch.rand(1).item() * 18 - 1], 5, 4) for _ in range(12)])
    owner = torch.arange(2).repeat_interleave(6)
    weight = torch.randn(12, 3, 5, 7)
    both = []
    for order in (torch.arange(12), torch.arange(12).flip(0)):  # in the images' order: by grid; else: roi_align
        m = torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(1)).requires_grad_()
        got = roi_sample(m, boxes[order], owner[order], 4, (5, 7))
        (got * weight[order]).sum().backward()
        both.append((got[order], m.grad))
    torch.testing.assert_close(both[0][0], both[1][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(both[0][1], both[1][1], atol=1e-5, rtol=0)
    assert (both[0][0] == 0).any()
