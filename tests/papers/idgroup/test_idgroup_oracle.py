"""The ground truth of real photographs through the decoder: what grouping itself costs (spec 9 and 11)."""

import os
from pathlib import Path

import pytest
import torch

from repose import papers
from repose.config import load
from repose.data.datamodule import PoseDataModule
from repose.engine.module import to_photograph
from repose.geometry import EDGE
from repose.metrics.keypoint_ap import KeypointAP
from repose.papers.idgroup.module import IDGroupModule
from repose.types import Poses

pytestmark = pytest.mark.data


@torch.no_grad()
def oracle(
    coco_lite: Path, monkeypatch, images: int | None, *settings: str, within: float | None = None
) -> tuple[dict[str, float], int, int]:
    """AP of the decoder on the truth of coco-lite's validation half; people with keypoint cells, people found.

    With `within` the vectors say of each joint the point of its cell that is so far from its left and upper edges.
    """
    monkeypatch.setitem(os.environ, "REPOSE_DATA", str(coco_lite.parent))
    limit = [] if images is None else [f"data.limit_val={images}"]
    cfg = load(
        "idgroup/mobilenetv3",
        ["data=coco-lite", "data.workers=0", "data.cache=off", "test.batch=8", *limit,
         "model.backbone.name=mobilenetv3_small_050", *settings],
        find_paper=papers.get,
    ).cfg  # fmt: skip
    module = IDGroupModule(cfg, cfg.joint_set()).eval()
    data = PoseDataModule(cfg)
    data.setup("test")
    metric = KeypointAP(cfg.joint_set(), data.ground_truth(), oks_nms=None)
    people = found = 0
    for batch in (views[0] for views in data.test_dataloader()):
        maps = module.oracle(batch)
        if within is not None:
            maps = maps._replace(vector_BHWK2=maps.vector_BHWK2.floor() + within)
        poses: list[Poses] = module.people_of(maps)
        people += len(module.encode(batch).person_M.unique())
        found += sum(p.n for p in poses)
        metric.update(batch.image_id_B, batch.subject_id_B, to_photograph(poses, batch), torch.ones(batch.b))
    return metric.compute(), people, found


def test_forty_photographs(coco_lite, monkeypatch):
    """T = 3 cells, the default: people that are lost have merged with a neighbour."""
    values, people, found = oracle(coco_lite, monkeypatch, 40)
    print({k: round(v, 4) for k, v in values.items()}, f"{people} people, {people - found} merged")
    assert values["AP"] >= 0.97
    assert 0 <= people - found <= 0.03 * people


def test_cells_without_their_fraction(coco_lite, monkeypatch):
    """Specification 1 and 9: a perfect detector that gives cell centres; corners, half a cell off, lose a third."""
    centre, corner = (oracle(coco_lite, monkeypatch, 40, within=w)[0]["AP"] for w in (EDGE, 0.0))
    print(f"centres {centre:.3f}, corners {corner:.3f}")
    assert 0.5 < centre < 0.75
    assert corner < centre - 0.15


@pytest.mark.slow
@pytest.mark.parametrize(("distance", "least"), [(2.0, 0.97), (3.0, 0.97), (4.0, 0.85)])
def test_the_validation_half(coco_lite, monkeypatch, distance, least):
    values, people, found = oracle(coco_lite, monkeypatch, None, f"decode.distance={distance}")
    merged = people - found
    print(f"T={distance}:", {k: round(v, 4) for k, v in values.items()}, f"{people} people, {merged} merged")
    assert values["AP"] >= least
    assert 0 <= merged <= 0.1 * people
