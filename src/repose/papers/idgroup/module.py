"""Identity-vector grouping as a PoseModule: wires model, targets, losses and decode."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from repose.engine.module import PoseModule, View
from repose.errors import UserError
from repose.ops.bottom_up import mean_point
from repose.papers.idgroup.config import Experiment
from repose.papers.idgroup.decode import Active, active_cells, decode, mirrored_vectors, on_the_map, surest
from repose.papers.idgroup.graph import IDGroupGraph
from repose.papers.idgroup.losses import Balance, Outputs, forward_train, losses
from repose.papers.idgroup.model import Features, IDGroup
from repose.papers.idgroup.targets import Targets, encode, map_size
from repose.skeleton import Skeleton
from repose.types import Batch, Poses


class Seen(NamedTuple):
    """A view as the network sees it; a mirrored one's maps are mirrored too."""

    features: Features
    mirrored: bool


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

    def graph(self) -> IDGroupGraph:
        """See graph.py."""
        return IDGroupGraph(self.net)

    @property
    def score_threshold(self) -> None:
        """Crops of people keep the paper's score: recovered joints count 0 in it (spec 5.6)."""

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

    def slow_parameters(self) -> list[tuple[list[nn.Parameter], float]]:
        """The backbone, by `model.backbone.lr_factor`."""
        return [(list(self.net.backbone.parameters()), self.cfg.model.backbone.lr_factor)]

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
        return self.ask(self.see(views), views[0].batch)

    def see(self, views: list[View]) -> list[Seen]:
        """What the network makes of each view before any cell is asked."""
        if any(view.scale != views[0].scale for view in views):
            raise UserError("data.test_scales: identity vectors are places on one map; give one scale, [1.0]")
        return [Seen(self.net.features(view.image_BCHW), view.mirrored) for view in views]

    def presence(self, seen: list[Seen]) -> Tensor:
        """Mean probability of the views, as the plain one shows it, (B, H, W)."""
        each = [s.features.presence_BHW.flip(-1) if s.mirrored else s.features.presence_BHW for s in seen]
        return torch.stack(each).mean(0)

    def ask(self, seen: list[Seen], batch: Batch) -> Active:
        """Active cells and their vectors."""
        owner_P, cell_P2, score_P = active_cells(self.presence(seen), batch, self.cfg.decode)
        return Active(owner_P, cell_P2, score_P, self.vectors(seen, owner_P, cell_P2, map_size(batch)), batch.b)

    def vectors(self, seen: list[Seen], owner_P: Tensor, cell_P2: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Mean of the views' vectors at cells of the plain one, on the map, (P, K, 2)."""
        width = size_hw[1]
        turned_P2 = torch.stack([width - 1 - cell_P2[:, 0], cell_P2[:, 1]], dim=-1)
        each = [
            mirrored_vectors(self.net.vectors(s.features, owner_P, turned_P2), width, self.skeleton.flip_index)
            if s.mirrored
            else self.net.vectors(s.features, owner_P, cell_P2)
            for s in seen
        ]
        return on_the_map(torch.stack(each).mean(0), size_hw)

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

    def active(self, maps: Maps) -> Active:
        """Active cells of maps."""
        owner_P, cell_P2, score_P = active_cells(maps.presence_BHW, maps.batch, self.cfg.decode)
        vector_PK2 = maps.vector_BHWK2[owner_P, cell_P2[:, 1], cell_P2[:, 0]]
        return Active(owner_P, cell_P2, score_P, vector_PK2, maps.batch.b)

    def people_of(self, maps: Maps) -> list[Poses]:
        """Active cells of maps, grouped."""
        return self.decode(self.active(maps))

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
