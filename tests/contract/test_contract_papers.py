"""What every paper must do (`repose.testing.contract`), over COCO-17 and a custom skeleton of 5 joints.

A new paper adds one entry to FACTS, or a file `tests/papers/<name>/<name>_facts.py` with a dict FACTS of its own;
everything else is found by itself.
"""

from __future__ import annotations

import runpy
from collections import ChainMap
from pathlib import Path
from typing import Any

import pytest

from repose import papers
from repose.testing import contract
from repose.testing.contract import ODD_SIZES, SKELETONS, Facts, batch_for, build, tensors, train_losses

__all__ = ["FACTS", "METHODS", "SKELETONS", "batch_for", "build", "tensors", "train_losses"]  # other tests take them

POOLER: dict[str, Any] = {
    "model.roi.kind": "pooler",
    "model.roi.pooler_width": 16,
    "model.backbone.kind": "fpn",
    "model.backbone.name": "resnet18",
}
FACTS = {
    "drpnet": Facts(
        experiment="drpnet/m",
        sizes={
            "drpnet/s": (7_027_459, 858.94e6),
            "drpnet/m": (15_043_579, 2155.79e6),
            "drpnet/l": (29_048_787, 4449.36e6),
        },
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet18"}],
            "model.neck.width": [{"model.neck.width": 20}],
            "model.neck.levels": [{"model.neck.levels": [1, 2, 3]}, {"model.neck.levels": [3, 4]}],
            "model.neck.stride": [{"model.neck.stride": 8, "model.neck.levels": [2, 3, 4]}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
        },
    ),
    "dekr": Facts(
        experiment="baselines/dekr",
        sizes={"baselines/dekr": (29_561_182, 45_660.82e6)},
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet18"}],
            "loss.min_area": [{"loss.min_area": 96.0**2}],
            "decode.candidates": [{"decode.candidates": 3}],
            "decode.max_people": [{"decode.max_people": 3}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
            "loss.legacy_centre_sigma": "needs fewer joints; tests/papers/baselines/test_dekr_targets.py",
            "loss.mask": "needs a batch with regions; tests/papers/baselines/test_dekr_targets.py",
            "decode.decrease": "needs several scales; tests/papers/baselines/test_dekr_decode.py",
            "decode.distance": "untrained poses have no extent; tests/papers/baselines/test_dekr_decode.py",
            "decode.distance_multi": "needs several scales; tests/papers/baselines/test_dekr_decode.py",
            "decode.same_joints": "untrained poses have no extent; tests/papers/baselines/test_dekr_decode.py",
            "decode.oks": "untrained poses have no extent; tests/papers/baselines/test_dekr_decode.py",
            "decode.rescore": "needs a file; tests/papers/baselines/test_dekr_rescore.py",
        },
        steps=100,
        lr=2e-2,
    ),
    "pinet": Facts(
        experiment="pinet/ochuman",
        sizes={
            "pinet/ochuman": (31_696_381, 42_435.95e6),
            "pinet/crowdpose": (31_683_301, 42_270.80e6),
            "pinet/coco": (31_232_701, 42_435.95e6),
        },
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet18"}],
            "model.parts": [{"model.parts": {"top": ["head"], "rest": ["torso", "legs"]}}],
            "loss.normaliser": [{"loss.normaliser": "area"}],
            "loss.min_area": [{"loss.min_area": 96.0**2}],
            "decode.threshold": [{"decode.threshold": -1.0}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
            "loss.mask": "needs a batch with regions; tests/papers/pinet/test_pinet_targets.py",
            "loss.legacy_flip": "needs a mirrored batch; tests/papers/pinet/test_pinet_targets.py",
            "decode.candidates": "an untrained network has no peaks; tests/papers/pinet/test_pinet_decode.py",
            "decode.decrease": "needs several scales; tests/papers/pinet/test_pinet_decode.py",
            "decode.fuse": "untrained poses never overlap; tests/papers/pinet/test_pinet_decode.py",
            "decode.oks": "untrained poses never overlap; tests/papers/pinet/test_pinet_decode.py",
        },
        lr=5e-3,
    ),
    "maskrcnn": Facts(
        experiment="baselines/maskrcnn",
        sizes={
            "baselines/maskrcnn": (59_137_258, 120_240.66e6),  # 1000 proposals, 20 people
            "baselines/maskrcnn-masks": (44_401_393, 104_053.71e6),  # 1000 proposals, 100 people
        },
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet34"}],
            "model.anchors": [{"model.anchors": [8.0, 16.0, 32.0, 64.0, 128.0]}],
            "loss.positive": [{"loss.positive": 0.02}],
        },
        skip={
            "model.task": "needs masks; tests/papers/baselines/test_maskrcnn.py",
            "model.mask_width": "likewise",
            "model.mask_convs": "likewise",
            "loss.mask": "likewise",
            "model.backbone.trainable": "changes gradients alone; tests/papers/baselines/test_maskrcnn.py",
            "model.backbone.weights": "needs a file; tests/papers/baselines/test_maskrcnn.py",
            "model.weights": "needs a file; tests/papers/baselines/test_maskrcnn.py",
            "loss.min_side": "needs people cut to slivers; tests/papers/baselines/test_maskrcnn.py",
            "decode.threshold": "untrained scores are near one half; tests/papers/baselines/test_maskrcnn.py",
        },
        overfit={"loss.samples": 32},
        steps=200,
        lr=3e-3,
    ),
    "rtmpose": Facts(
        experiment="baselines/rtmpose-m",
        sizes={
            "baselines/rtmpose-t": (3_337_007, 358.5e6),
            "baselines/rtmpose-s": (5_473_251, 681.8e6),
            "baselines/rtmpose-m": (13_587_611, 1928.1e6),
            "baselines/rtmpose-l": (27_660_339, 4159.3e6),
        },
        alternatives={"model.backbone.name": [{"model.backbone.name": "resnet18"}]},
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
        },
    ),
    "simplebaseline": Facts(
        experiment="baselines/simplebaseline-r50",
        sizes={
            "baselines/simplebaseline-r50": (33_999_697, 5450.22e6),
            "baselines/hrnet-w32": (28_536_113, 7685.34e6),
            "baselines/hourglass-8": (25_437_960, 20_698.50e6),  # 20.59 G of convolutions
        },
        alternatives={
            "model.kind": [
                {"model.kind": "hourglass", "model.hourglass.stacks": 1, "model.hourglass.width": 16},
            ],
            "model.backbone.name": [{"model.backbone.name": "cspnext_tiny"}],
            "model.head.deconvs": [{"model.head.deconvs": 0}, {"model.head.deconvs": 2}],
        },
        skip={
            "model.hourglass.stacks": "the hourglass's; tests/papers/baselines/test_hourglass.py",
            "model.hourglass.width": "likewise",
            "model.hourglass.depth": "likewise",
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
        },
    ),
    "cganet": Facts(
        experiment="cganet/coco",
        sizes={
            "cganet/coco": (28_257_163, 37_813.55e6),  # 20 boxes
            "cganet/masks": (21_148_875, 27_240e6),
            "cganet/separated": (25_747_793, 7_230.24e6),
        },
        alternatives={
            "model.kind": [
                {
                    "model.kind": "separated",
                    "data.view": "person",
                    "data.base": "box",
                    "data.centre": "box",
                }
            ],
            "model.backbone.kind": [{"model.backbone.kind": "fpn", "model.backbone.name": "resnet18"}],
            "model.backbone.width": [{"model.backbone.width": 12}],
            "model.backbone.name": [{"model.backbone.kind": "fpn", "model.backbone.name": "resnet18"}],
            "model.backbone.fpn_width": [
                {"model.backbone.kind": "fpn", "model.backbone.name": "resnet18", "model.backbone.fpn_width": 16}
            ],
            "model.centre_lines": [
                {"model.centre_lines": False, "decode.ambiguity": False, "decode.extend": "none"},
            ],
            "model.roi.kind": [POOLER],
            "model.roi.size": [{"model.roi.size": 8}],
            "model.roi.pooler_width": [POOLER | {"model.roi.pooler_width": 8}],
            "model.roi.pooler_convs": [POOLER | {"model.roi.pooler_convs": 2}],
            "loss.min_overlap": [{"loss.min_overlap": 0.3}],
            "loss.line_iou": [{"loss.line_iou": 0.05}],
            "loss.roi_source": [{"loss.roi_source": "gt"}],
            "loss.roi_scale": [{"loss.roi_scale": [1.0, 1.0]}],
            "loss.roi_max": [{"loss.roi_max": 1}],
            "decode.fixed": [{"decode.extend": "fixed", "decode.fixed": 0.2}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
            "model.task": "needs masks; tests/papers/cganet/test_cganet_module.py",
            "loss.mask": "likewise",
            "loss.heatmap": "the separated model's; tests/papers/cganet/test_cganet_separated.py",
            "loss.separated": "likewise",
            "loss.separated_sigma": "likewise",
            "loss.line_detach": "changes a gradient alone; tests/papers/cganet/test_cganet_losses.py",
            "loss.roi_pred_from": "needs a detector that finds people; tests/papers/cganet/test_cganet_targets.py",
        },
        # one batch draws the same jitter at every step: other boxes than those of a test would be all it learns
        overfit={
            "loss.roi_source": "gt",
            "decode.extend": "none",
            "model.roi.stages": 1,
            "model.backbone.width": 24,
        },
        steps=120,
        lr=1e-2,
    ),
    "kdc": Facts(
        experiment="kdc/r101",
        sizes={"kdc/r101": (42_776_775, 113.21e9)},  # the others: tests/papers/kdc/test_kdc_model.py
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet34"}],
            "loss.stride": [{"loss.stride": 8}, {"loss.stride": 2, "data.masks": "full"}],
            "loss.min_pixels": [{"loss.min_pixels": 10_000}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/papers/kdc/test_kdc_model.py",
            "model.backbone.freeze_bn": "needs weights; tests/papers/kdc/test_kdc_model.py",
            "model.backbone.lr_factor": "of the optimiser; tests/papers/kdc/test_kdc_model.py",
            "model.eval_stride": "untrained maps have no peak; tests/papers/kdc/test_kdc_model.py",
        }
        | {
            f"decode.{name}": "untrained maps have no peak; tests/papers/kdc/test_kdc_decode.py"
            for name in (
                *("vote_threshold", "tau", "nms_radius", "match_radius", "refine_radius", "refine_steps", "strict"),
                *("max_people", "min_score", "masks", "seg_threshold", "mask_threshold", "min_mask"),
                *("pgo.sigma_hvk", "pgo.sigma_lvk", "pgo.unit", "igo.sigma", "igo.mode"),
            )
        },
        steps=100,
        lr=5e-3,
    ),
    "idgroup": Facts(
        experiment="idgroup/mobilenetv3",
        # with batch norm and upsampling; the specification's 7.14 and 11.24 G are without:
        # tests/papers/idgroup/test_idgroup_model.py
        sizes={"idgroup/mobilenetv3": (8_563_092, 7_191e6), "idgroup/maxvit": (19_204_232, 11_323e6)},
        alternatives={
            "model.backbone.name": [{"model.backbone.name": "resnet18"}],
            "model.transformer.width": [{"model.transformer.width": 48}],
            "model.transformer.heads": [{"model.transformer.heads": 2}],
            "decode.threshold": [{"decode.threshold": 0.9}],
            "decode.top": [{"decode.top": 9}],
        },
        skip={
            "model.backbone.pretrained": "needs the network; tests/nn/test_backbones.py",
            "model.backbone.weights": "needs a file; tests/nn/test_backbones.py",
            "model.backbone.lr_factor": "of the optimiser; tests/papers/idgroup/test_idgroup_module.py",
            "loss.unlabelled": "needs joints without label; tests/papers/idgroup/test_idgroup_targets.py",
        },
        steps=150,
        lr=5e-3,
    ),
}
VARIANTS = {  # methods that are settings of a paper, whose own switches FACTS has
    "spm": Facts(experiment="baselines/spm", sizes={"baselines/spm": (29_330_548, 41_890e6)}, steps=160, lr=5e-3),
}

for _file in sorted(Path(__file__).parents[1].glob("papers/*/*_facts.py")):
    FACTS |= {name: facts for name, facts in runpy.run_path(str(_file))["FACTS"].items() if name in papers.PAPERS}
METHODS = ChainMap(FACTS, VARIANTS)  # a view: other tests put an experiment of theirs into FACTS


every_paper = pytest.mark.parametrize("paper", list(papers.PAPERS))
every_method = pytest.mark.parametrize("paper", list(METHODS))
LONG = ("maskrcnn", "dekr", "idgroup", "spm")
"""Methods that are long in overfitting, and SPM, which is PINet with one centre."""
every_method_overfit = pytest.mark.parametrize(
    "paper", [pytest.param(m, marks=pytest.mark.slow) if m in LONG else m for m in METHODS]
)
every_skeleton = pytest.mark.parametrize("skeleton", SKELETONS)


def test_every_paper_is_in_facts():
    assert FACTS.keys() == papers.PAPERS.keys()


@every_method
def test_sizes_are_the_specifications(paper):
    contract.sizes_are_the_specifications(METHODS[paper])


@every_method
@every_skeleton
def test_every_parameter_gets_a_finite_gradient(paper, skeleton):
    contract.every_parameter_gets_a_finite_gradient(METHODS[paper], skeleton)


@every_method
@every_skeleton
def test_a_batch_equals_its_images_one_by_one(paper, skeleton):
    contract.a_batch_equals_its_images_one_by_one(METHODS[paper], skeleton)


@every_method
@every_skeleton
def test_checkpoint_round_trip_is_bit_equal(paper, skeleton):
    contract.checkpoint_round_trip_is_bit_equal(METHODS[paper], skeleton)


@every_method
@pytest.mark.parametrize("hw", ODD_SIZES)
def test_odd_sizes(paper, hw):
    contract.odd_sizes(METHODS[paper], hw)


@every_method
@every_skeleton
def test_nobody_trains_and_tests(paper, skeleton):
    contract.nobody_trains_and_tests(METHODS[paper], skeleton)


@every_method_overfit
@pytest.mark.parametrize("skeleton", ["coco17", pytest.param("five", marks=pytest.mark.slow)])
def test_overfits_a_batch_to_ap_95(paper, skeleton):
    contract.overfits_a_batch_to_ap_95(METHODS[paper], skeleton)


@every_paper
def test_every_switch_changes_the_graph_or_the_decode(paper):
    contract.every_switch_changes_the_graph_or_the_decode(METHODS[paper])


@every_paper
def test_every_setting_is_documented(paper):
    contract.every_setting_is_documented(METHODS[paper])


@every_paper
def test_bfloat16_trains(paper):
    contract.bfloat16_trains(METHODS[paper])


@every_paper
def test_inputs_are_left_alone(paper):
    contract.inputs_are_left_alone(METHODS[paper])
