"""KDC as a PoseModule: wires model, targets, losses and decode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from repose.engine.module import PoseModule, View
from repose.ops.oks import oks
from repose.papers.kdc.config import Experiment
from repose.papers.kdc.decode import Maps, decode, merge, mirror_back
from repose.papers.kdc.frame import Frame
from repose.papers.kdc.losses import losses
from repose.papers.kdc.model import KDC
from repose.papers.kdc.oracle import perfect
from repose.papers.kdc.targets import Targets, encode
from repose.types import Batch, Poses

MATCHED = 0.5
"""OKS from which a prediction counts as a person's, for the confidences of Fig. 7."""


class KDCModule(PoseModule):
    """KDC (bottom-up: whole images, poses and masks)."""

    cfg: Experiment
    net: KDC

    def build(self) -> KDC:
        """The network."""
        return KDC(self.cfg.model, self.skeleton.k, self.frame.m)

    @property
    def frame(self) -> Frame:
        """Lengths and graph."""
        return Frame.of(self.cfg.model, self.cfg.data.input_size, self.skeleton)

    @property
    def stride(self) -> int:
        """1: views are mirrored plainly, and their maps brought back to the cells (a stride need not divide 401)."""
        return 1

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each loss."""
        w = self.cfg.loss
        names = ("heatmap", "keycentroid", "midrange", "seg", "offset", "instance", "bandwidth")
        return {name: getattr(w, name) for name in names}

    def slow_parameters(self) -> list[tuple[list[nn.Parameter], float]]:
        """The backbone, with `model.backbone.lr_factor`."""
        factor = self.cfg.model.backbone.lr_factor
        return [] if factor == 1 else [(list(self.net.backbone.parameters()), factor)]

    def encode(self, batch: Batch) -> Targets:
        """Targets on the loss grid."""
        return encode(batch, self.frame, self.cfg.model, self.cfg.loss.stride)

    def forward_train(self, image_BCHW: Tensor, batch: Batch, targets: Targets) -> Maps:
        """Maps at the training output stride."""
        return self.maps(image_BCHW)

    def maps(self, image_BCHW: Tensor) -> Maps:
        """The network's maps of images."""
        return Maps(self.net(image_BCHW), self.net.stride, (image_BCHW.shape[-2], image_BCHW.shape[-1]))

    def losses(self, outputs: Maps, targets: Targets) -> dict[str, Tensor]:
        """All losses, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return losses(outputs.outputs, outputs.stride, targets, self.frame, self.cfg.model, self.cfg.loss)

    def infer(self, views: list[View]) -> Maps:
        """Mean of the image's and the mirrored image's maps."""
        frame = self.frame
        found = [self.maps(view.image_BCHW) for view in views]
        back = [mirror_back(m, frame) if view.mirrored else m for m, view in zip(found, views, strict=True)]
        return merge(back)

    def decode(self, outputs: Maps) -> list[Poses]:
        """People and their masks."""
        return decode(outputs, self.frame, self.cfg.model, self.cfg.decode)

    def oracle(self, batch: Batch, stride: int | None = None) -> Maps:
        """Perfect maps of a batch's ground truth, at the evaluation output stride or another."""
        model = self.cfg.model
        stride = stride or (4 if model.decoder == "skip4" else model.eval_stride)
        targets = encode(batch, self.frame, model, stride)
        return Maps(perfect(batch, targets, self.frame, model), stride, targets.input_hw)

    def read_outs(self, outputs: Maps, batch: Batch, poses: list[Poses]) -> dict[str, tuple[Tensor, Tensor]]:
        """People found, and mean confidence of each joint over people who were found at OKS 0.5 (Fig. 7)."""
        people, skeleton = batch.people, self.skeleton
        total = torch.zeros(skeleton.k, device=self.device)
        count, found, wanted = torch.zeros_like(total), total.new_zeros(()), total.new_zeros(())
        for b, pose in enumerate(poses):
            mine = ((people.owner_N == b) & people.labelled_N).nonzero()[:, 0]
            wanted += len(mine)
            if pose.n == 0 or len(mine) == 0:
                continue
            linear = batch.to_image_B23[b, :, :2]
            area = people.area_N[mine] / float(linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0])
            joint = people.joint_NK3[mine]
            best, which = oks(pose.joint_NK3[..., :2], joint, area, skeleton.sigmas).max(0)
            seen = (best >= MATCHED)[:, None] & (joint[..., 2] > 0)
            found += (best >= MATCHED).sum()
            total += (pose.joint_NK3[which, :, 2] * seen).sum(0)
            count += seen.sum(0)
        each = {f"confidence_{name}": (total[k], count[k]) for k, name in enumerate(skeleton.joints)}
        return {"found": (found, wanted), "confidence": (total.sum(), count.sum()), **each}
