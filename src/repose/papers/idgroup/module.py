"""Identity-vector grouping as a PoseModule: wires model, targets, losses and decode."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from repose.engine.module import PoseModule, View
from repose.engine.optim import Schedule, build_optimizer, parameter_groups, scaled_lr
from repose.errors import UserError
from repose.ops.bottom_up import mean_point
from repose.papers.idgroup.config import Experiment
from repose.papers.idgroup.decode import Active, active_cells, decode, mirrored_vectors, on_the_map, surest
from repose.papers.idgroup.losses import Balance, Outputs, forward_train, losses
from repose.papers.idgroup.model import IDGroup
from repose.papers.idgroup.targets import Targets, encode, map_size
from repose.skeleton import Skeleton
from repose.types import Batch, Poses


class Maps(NamedTuple):
    """Dense maps of a perfect network.

    Attributes:
        presence_BHW: probabilities.
        vector_BHWK2: identity vectors, cells; 0 where there is no keypoint.
        batch: whose they are.
    """

    presence_BHW: Tensor
    vector_BHWK2: Tensor
    batch: Batch


class BoundedSchedule(Schedule):
    """The engine's schedule, `plateau` too not below `final_factor` (§V.B: a learning rate in [1e-4, 3e-3])."""

    def _main(self, step: int) -> float:
        return max(super()._main(step), self.final_factor)


class IDGroupModule(PoseModule):
    """Identity-vector grouping (bottom-up: a whole image with all its people)."""

    cfg: Experiment
    net: IDGroup

    def __init__(self, cfg: Any, skeleton: Skeleton) -> None:
        super().__init__(cfg, skeleton)
        self.balance = Balance(self.cfg.loss)

    def build(self) -> IDGroup:
        """The network."""
        return IDGroup(self.cfg.model, self.skeleton.k)

    @property
    def stride(self) -> int:
        """1: views are mirrored plainly, which mirrors the cells of this paper's map exactly (targets.py)."""
        return 1

    @property
    def weights(self) -> dict[str, float]:
        """Present weights of the losses in the total (Eq. 5)."""
        heatmap, group = self.balance.weights()
        return {"asymmetric": heatmap, "chamfer": heatmap * self.cfg.loss.chamfer, "vector": group}

    def combine(self, losses: dict[str, Tensor]) -> Tensor:
        """Eq. 5 of L_Heatmap = asymmetric + weight x chamfer and L_Group = vector."""
        heatmap = losses["asymmetric"] + self.cfg.loss.chamfer * losses["chamfer"]
        if self.cfg.loss.weighting != "fixed":
            weight = self.balance.weight_2.detach().float()
            self.logged |= {"weight_heatmap": weight[0].clone(), "weight_group": weight[1].clone()}
        return self.balance(heatmap.float(), losses["vector"].float())

    def after_step(self) -> None:
        """Lambdas stay in their range."""
        self.balance.clamp()

    def encode(self, batch: Batch) -> Targets:
        """Presence and identity vectors."""
        return encode(batch, self.cfg.loss)

    def forward_train(self, image_BCHW: Tensor, batch: Batch, targets: Targets) -> Outputs:
        """Presence, and vectors at the keypoint cells."""
        return forward_train(self.net, image_BCHW, targets)

    def losses(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """`asymmetric`, `chamfer` and `vector`, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            return losses(outputs, targets, self.cfg.loss)

    def infer(self, views: list[View]) -> Active:
        """Active cells of the mean presence, and the mean of the views' vectors there."""
        if any(view.scale != views[0].scale for view in views):
            raise UserError("data.test_scales: identity vectors are places on one map; give one scale, [1.0]")
        batch = views[0].batch
        found = [(self.net.features(view.image_BCHW), view.mirrored) for view in views]
        presence_BHW = torch.stack([f.presence_BHW.flip(-1) if back else f.presence_BHW for f, back in found]).mean(0)
        owner_P, cell_P2, score_P = active_cells(presence_BHW, batch, self.cfg.decode)
        height, width = map_size(batch)
        turned_P2 = torch.stack([width - 1 - cell_P2[:, 0], cell_P2[:, 1]], dim=-1)
        vectors = [
            mirrored_vectors(self.net.vectors(f, owner_P, turned_P2), width, self.skeleton.flip_index)
            if back
            else self.net.vectors(f, owner_P, cell_P2)
            for f, back in found
        ]
        vector_PK2 = on_the_map(torch.stack(vectors).mean(0), (height, width))
        return Active(owner_P, cell_P2, score_P, vector_PK2, batch.b)

    def decode(self, outputs: Active) -> list[Poses]:
        """People of each image: clusters of equal vectors. Of a crop (`data.view: person`) the surest one alone."""
        found = decode(outputs, self.cfg.decode)
        return [surest(pose) for pose in found] if self.cfg.data.view == "person" else found

    def oracle(self, batch: Batch) -> Maps:
        """Presence and vectors of the ground truth; joints without label lie at the person's mean."""
        targets = self.encode(batch)
        known = targets.weight_MK[..., None] > 0
        mean_M2 = mean_point(targets.vector_MK2, known[..., 0])
        filled = torch.where(known, targets.vector_MK2, mean_M2[:, None])
        x_M, y_M = targets.cell_M2.unbind(-1)
        dense = filled.new_zeros(*targets.presence_BHW.shape, self.skeleton.k, 2)
        dense[targets.owner_M, y_M, x_M] = filled
        return Maps(targets.presence_BHW.float(), dense, batch)

    def people_of(self, maps: Maps) -> list[Poses]:
        """Active cells of maps, grouped."""
        owner_P, cell_P2, score_P = active_cells(maps.presence_BHW, maps.batch, self.cfg.decode)
        vector_PK2 = maps.vector_BHWK2[owner_P, cell_P2[:, 1], cell_P2[:, 0]]
        return self.decode(Active(owner_P, cell_P2, score_P, vector_PK2, maps.batch.b))

    def read_outs(self, outputs: Active, batch: Batch, poses: list[Poses]) -> dict[str, tuple[Tensor, Tensor]]:
        """Per image: active cells and people; share of recovered joints; error of the vectors at true keypoint cells.

        `vector_error` is a root mean square over the joints, in cells, averaged over active cells that are keypoint
        cells: what `decode.distance` is compared with.
        """
        images = torch.tensor(float(batch.b))
        recovered = sum(int((p.joint_NK3[..., 2] == 0).sum()) for p in poses)
        joints = sum(p.joint_NK3[..., 2].numel() for p in poses)
        targets = self.encode(batch)
        wanted = targets.vector_MK2.new_zeros(*targets.presence_BHW.shape, self.skeleton.k, 3)
        x_M, y_M = targets.cell_M2.unbind(-1)
        wanted[targets.owner_M, y_M, x_M] = torch.cat([targets.vector_MK2, targets.weight_MK[..., None]], dim=-1)
        wanted_PK3 = wanted[outputs.owner_P, outputs.cell_P2[:, 1], outputs.cell_P2[:, 0]]
        weight_PK = wanted_PK3[..., 2]
        square_P = ((outputs.vector_PK2 - wanted_PK3[..., :2]).square().sum(-1) * weight_PK).sum(1)
        error_P = (square_P / weight_PK.sum(1).clamp(min=1)).sqrt()
        hit_P = weight_PK.any(1)
        return {
            "active_cells": (torch.tensor(float(len(outputs.owner_P))), images),
            "people": (torch.tensor(float(sum(p.n for p in poses))), images),
            "recovered": (torch.tensor(float(recovered)), torch.tensor(float(joints))),
            "vector_error": (error_P.sum(), hit_P.sum()),
        }

    def configure_optimizers(self) -> Any:
        """The engine's optimiser with the backbone's learning rate times `model.backbone.lr_factor`."""
        optim = self.cfg.optim
        lr = scaled_lr(optim, self.cfg.train.batch)
        mine = set(self.net.backbone.parameters())
        optimizer = build_optimizer((p for p in self.parameters() if p not in mine), optim, lr)
        for group in parameter_groups(self.net.backbone.parameters(), optim):
            optimizer.add_param_group({**group, "lr": lr * self.cfg.model.backbone.lr_factor})
        self.schedule = BoundedSchedule(optim, int(self.trainer.estimated_stepping_batches))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
