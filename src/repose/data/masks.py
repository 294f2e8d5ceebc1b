"""What learns from instance masks needs some."""

from __future__ import annotations

from repose.data.coco import Annotations
from repose.errors import UserError


def refuse_without_masks(annotations: Annotations) -> None:
    """Stop where nobody of a COCO-format file has a mask.

    Raises:
        UserError: nobody has.
    """
    if not any(annotations.has_mask(row) for row in range(len(annotations.crowd_A)) if not annotations.crowd_A[row]):
        raise UserError(
            f"{annotations.file}: nobody has a `segmentation`, which model.task=masks learns from; "
            "use other data, or model.task=keypoints"
        )
