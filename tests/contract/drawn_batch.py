"""The drawn batch of the contract, under the name that tests know it by."""

from repose.testing.drawn import (
    FIVE,
    coco_ground_truth,
    drawn_batch,
    one_image,
    with_masks,
    without_people,
)

__all__ = ["FIVE", "coco_ground_truth", "drawn_batch", "one_image", "with_masks", "without_people"]
