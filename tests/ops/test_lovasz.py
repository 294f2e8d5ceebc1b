"""Losses on sets of pixels."""

import torch

from repose.ops.lovasz import dice, lovasz_hinge


def test_hand_computed():
    """Errors 1.5 (member), 0.5 (not), 0 (member): Jaccard 1/2, 2/3, 1, so 1.5 / 2 + 0.5 / 6."""
    logit = torch.tensor([[-0.5, -0.5, 1.0]])
    member = torch.tensor([[True, False, True]])
    valid = torch.ones_like(member)
    torch.testing.assert_close(lovasz_hinge(logit, member, valid), torch.tensor([1.5 / 2 + 0.5 / 6]))


def test_of_hard_decisions_it_is_twice_the_jaccard_loss():
    """With logits of +-1 the hinge is 0 or 2: 2 (1 - IoU)."""
    torch.manual_seed(0)
    member, said = torch.rand(5, 40) < 0.4, torch.rand(5, 40) < 0.5
    iou = (member & said).sum(1) / (member | said).sum(1)
    found = lovasz_hinge(said.float() * 2 - 1, member, torch.ones_like(member))
    torch.testing.assert_close(found, 2 * (1 - iou))


def test_pixels_that_do_not_count():
    torch.manual_seed(1)
    logit = torch.randn(3, 30, requires_grad=True)
    member, valid = torch.rand(3, 30) < 0.4, torch.rand(3, 30) < 0.7
    found = lovasz_hinge(logit, member, valid)
    for n in range(3):
        kept = valid[n]
        alone = lovasz_hinge(logit[n : n + 1, kept], member[n : n + 1, kept], kept[kept][None])
        torch.testing.assert_close(found[n], alone[0])
    found.sum().backward()
    assert logit.grad is not None
    assert (logit.grad[~valid] == 0).all() and logit.grad[valid].abs().sum() > 0


def test_dice():
    p = torch.tensor([[1.0, 0.5, 0.5, 0.9]])
    member = torch.tensor([[True, True, False, True]])
    valid = torch.tensor([[True, True, True, False]])
    torch.testing.assert_close(dice(p, member, valid), torch.tensor([1 - 2 * 1.5 / (1.5 + 2)]))
    assert dice(member.float(), member, torch.ones_like(valid)).item() == 0
