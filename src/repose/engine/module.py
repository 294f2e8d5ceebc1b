"""`PoseModule`: what all papers share. A paper implements `build`, `encode`, `losses`, `infer`, `decode`.

Shapes: B images (or crops), N people of one image, K joints, C channels, H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from repose.config import ExperimentBase
from repose.engine.graph import Graph
from repose.engine.optim import Schedule, build_optimizer, scaled_lr
from repose.errors import UserError
from repose.geometry import apply_affine, mirror
from repose.skeleton import Skeleton
from repose.types import Batch, Poses

MEAN = (123.675, 116.28, 103.53)
"""RGB mean of ImageNet, 0-255."""
STD = (58.395, 57.12, 57.375)
"""RGB standard deviation of ImageNet, 0-255."""


@dataclass(frozen=True)
class View:
    """One view of a test batch.

    Attributes:
        image_BCHW: float32, normalised.
        batch: the batch it was made of (unmirrored coordinates).
        mirrored: made by `geometry.mirror` at the paper's stride.
        scale: which of `data.test_scales` this is.
    """

    image_BCHW: Tensor
    batch: Batch
    mirrored: bool
    scale: float


@dataclass(frozen=True)
class Evaluated:
    """One evaluated batch: what metrics and pictures are made of.

    Attributes:
        batch: view 0's batch, on the device.
        poses: one per batch element, input pixels, scores as the paper's `decode` gave them.
        poses_img: the same in photograph pixels, with the person view's instance scores.
        area_B: areas for OKS-NMS, photograph pixels^2: (B,) of the crops; image view: B tensors (N,), of each pose.
        sums: the paper's read-outs of this batch, name -> (sum, count).
    """

    batch: Batch
    poses: list[Poses]
    poses_img: list[Poses]
    area_B: Tensor | list[Tensor]
    sums: dict[str, tuple[Tensor, Tensor]]


class NonFiniteLoss(Exception):
    """A loss is NaN or infinite; carries the batch for the guard (engine.callbacks) to save."""

    def __init__(self, batch: Batch, losses: dict[str, float]) -> None:
        super().__init__(str(losses))
        self.batch = batch
        self.losses = losses


class PoseModule(LightningModule, ABC):
    """Steps, views, optimisation and mapping back to the photograph, for any paper.

    Attributes:
        cfg: the paper's experiment.
        skeleton: joints of the data.
        net: what `build` returned; its parameters are what is counted and averaged.
        ap_read_outs: metric name -> key of `Poses.extra` (ending in `_NK2`) whose points are scored like the poses
            themselves: {"coarse_AP": "coarse_NK2"}, say.
        logged: detached training values of the last batch, by log name; a paper may add its own in `losses`.
        evaluated: called with every evaluated batch; the engine sets it.
    """

    ap_read_outs: dict[str, str] = {}  # noqa: RUF012 - papers replace it whole
    mean_133: Tensor
    std_133: Tensor

    def __init__(self, cfg: Any, skeleton: Skeleton) -> None:
        super().__init__()
        if not isinstance(cfg, ExperimentBase):
            raise TypeError(f"cfg must be an ExperimentBase, not {type(cfg).__name__}")
        self.cfg: Any = cfg
        self.skeleton = skeleton
        self.evaluated: Callable[[Evaluated], None] | None = None
        self.schedule: Schedule | None = None
        self.logged: dict[str, Tensor] = {}
        self.register_buffer("mean_133", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std_133", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.net = self.build().to(memory_format=torch.channels_last)  # a fifth faster on CPUs, more on tensor cores
        if cfg.train.compile:
            self.net.compile()

    # --- what a paper implements ------------------------------------------------------------------------------------

    @abstractmethod
    def build(self) -> nn.Module:
        """The network; called once by __init__ with `self.cfg` and `self.skeleton` set."""

    @property
    @abstractmethod
    def stride(self) -> int:
        """Input pixels per map cell: the mirrored view is shifted so that cell i becomes exactly cell w - 1 - i."""

    @property
    @abstractmethod
    def weights(self) -> dict[str, float]:
        """Weight of each loss by name."""

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """Training targets, on the batch's device; runs in float32 and without gradients."""

    @abstractmethod
    def losses(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Unweighted scalar losses; the names are the log names."""

    @abstractmethod
    def infer(self, views: list[View]) -> Any:
        """Run the network over all views and merge them; view 0 is the first scale, not mirrored."""

    @abstractmethod
    def decode(self, outputs: Any) -> list[Poses]:
        """People of each batch element, in input pixels of view 0."""

    # --- what a paper may override ----------------------------------------------------------------------------------

    def forward_train(self, image_BCHW: Tensor, batch: Batch, targets: Any) -> Any:
        """The network's training outputs; a paper that needs targets or `self.progress` overrides it."""
        return self.net(image_BCHW)

    def combine(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the losses."""
        weights = self.weights
        if missing := losses.keys() - weights.keys():
            raise KeyError(f"no weight for loss {sorted(missing)}; `weights` has {sorted(weights)}")
        return torch.stack([weights[name] * loss.float() for name, loss in losses.items()]).sum()

    def after_step(self) -> None:
        """Called after every optimiser step (to clamp learnable weights, say)."""

    def slow_parameters(self) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters with a learning rate of their own, and its factor of the common one (a pre-trained backbone)."""
        return []

    def read_outs(self, outputs: Any, batch: Batch, poses: list[Poses]) -> dict[str, tuple[Tensor, Tensor]]:
        """Extra read-outs of a test batch: name -> (sum, count); reported is sum / count over all."""
        return {}

    def oracle(self, batch: Batch) -> Any:
        """Maps of a network without error for a test batch: the paper's own targets. Optional (`repose bench decode`).

        Raises:
            UserError: the paper has none.
        """
        raise UserError(f"{self.cfg.paper} has no oracle: its module does not say what a perfect network gives")

    def people_of(self, maps: Any) -> list[Poses]:
        """People of each image from `oracle`'s maps, without any network.

        A paper whose `infer` reads poses from maps overrides it.
        """
        return self.decode(maps)

    def pose_networks(self, maps: Any) -> dict[str, Callable[[], Any]]:
        """Parts of the network that a test runs on poses, not on images, by name: each runs once on `maps`' poses."""
        return {}

    def graph(self) -> Graph:
        """The network as `repose export` writes it; for methods whose `infer` asks for more than `net(image)`.

        Raises:
            UserError: it is not one graph.
        """
        return Graph(self.net)

    @property
    def score_threshold(self) -> float | None:
        """Person view: joints above it make the instance score; None = `decode`'s own scores do."""
        return self.cfg.test.joint_threshold

    # --- images -----------------------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1]; 1 outside training."""
        if self._trainer is None or self.schedule is None:
            return 1.0
        return min(self.global_step / max(self.schedule.steps, 1), 1.0)

    def normalise(self, image_B3HW: Tensor) -> Tensor:
        """Uint8 RGB to float32 with ImageNet's mean and standard deviation."""
        image = (image_B3HW.float() - self.mean_133) / self.std_133
        return image.contiguous(memory_format=torch.channels_last)

    def views(self, batches: Sequence[Batch]) -> list[View]:
        """Every view of a test batch: each scale, and with `test.flip` its mirror right after it."""
        views: list[View] = []
        for batch, scale in zip(batches, self.cfg.data.test_scales, strict=True):
            image = self.normalise(batch.image_B3HW)
            views.append(View(image, batch, False, scale))
            if self.cfg.test.flip:
                views.append(View(mirror(image, self.stride), batch, True, scale))
        return views

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a Batch, or a test's list of them."""
        if isinstance(batch, list):
            return [self.transfer_batch_to_device(b, device, dataloader_idx) for b in batch]
        if device.type == "mps":  # has no float64
            batch = replace(batch, to_image_B23=batch.to_image_B23.float())
        return batch.to(device, non_blocking=True)

    # --- training ---------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Targets, outputs, losses, their weighted sum.

        Raises:
            NonFiniteLoss: a loss is NaN or infinite.
        """
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            image = self.normalise(batch.image_B3HW)
            targets = self.encode(batch)
        outputs = self.forward_train(image, batch, targets)
        losses = self.losses(outputs, targets)
        loss = self.combine(losses)
        if not torch.isfinite(loss):
            raise NonFiniteLoss(batch, {k: float(v.detach()) for k, v in losses.items()})
        self.logged |= {k: v.detach().float() for k, v in losses.items()} | {"loss": loss.detach()}
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser's step, then `after_step` (before EMA and checkpoints see the weights)."""
        super().optimizer_step(*args, **kwargs)
        self.after_step()

    def configure_optimizers(self) -> Any:
        """Optimiser and per-step schedule; the learning rate is scaled by the global batch."""
        optim, slow = self.cfg.optim, self.slow_parameters()
        apart = {p for parameters, _ in slow for p in parameters}
        rest = (p for p in self.parameters() if p not in apart)
        optimizer = build_optimizer(rest, optim, scaled_lr(optim, self.cfg.train.batch), slow)
        self.schedule = Schedule(optim, int(self.trainer.estimated_stepping_batches))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # --- evaluation -------------------------------------------------------------------------------------------------

    def evaluate(self, batches: list[Batch], read_outs: bool = True) -> Evaluated:
        """Views, infer, decode, instance scores and the photograph's coordinates for one test batch.

        Args:
            batches: one per test scale.
            read_outs: also the paper's read-outs, which compare with annotated people.
        """
        batch = batches[0]
        outputs = self.infer(self.views(batches))
        with torch.autocast(self.device.type, enabled=False):
            poses = self.decode(outputs)
            if len(poses) != batch.b:
                raise RuntimeError(f"decode gave {len(poses)} results for {batch.b} images")
            sums = self.read_outs(outputs, batch, poses) if read_outs else {}
        person = self.cfg.data.view == "person"
        scored = person_scores(poses, batch, self.score_threshold) if person else poses
        poses_img = to_photograph(scored, batch)
        area = crop_area(batch) if person else [pose_area(pose) for pose in poses_img]
        return Evaluated(batch, poses, poses_img, area, sums)

    def _evaluation_step(self, batches: list[Batch]) -> None:
        if batches[0].b == 0:  # a process that got no image of the evaluation
            return
        evaluated = self.evaluate(batches)
        if self.evaluated is not None:
            self.evaluated(evaluated)

    def validation_step(self, batch: list[Batch], batch_idx: int) -> None:
        """Evaluate one batch."""
        self._evaluation_step(batch)

    def test_step(self, batch: list[Batch], batch_idx: int) -> None:
        """Evaluate one batch."""
        self._evaluation_step(batch)


def person_scores(poses: list[Poses], batch: Batch, threshold: float | None) -> list[Poses]:
    """Person view: instance score = box score x mean of the joint scores above `threshold` (0 where none is).

    Without a threshold it is the box score x the method's own score.

    Source: the COCO top-down convention (deep-high-resolution-net's `rescore`, DRP-Net's evaluation).
    """
    scored: list[Poses] = []
    for pose, box_score in zip(poses, batch.box_score_B, strict=True):
        mean_N = pose.score_N.float()
        if threshold is not None:
            joint_NK = pose.joint_NK3[..., 2].float()
            kept = joint_NK > threshold
            mean_N = (joint_NK * kept).sum(-1) / kept.sum(-1).clamp(min=1)
        scored.append(replace(pose, score_N=mean_N * box_score.to(mean_N)))
    return scored


def to_photograph(poses: list[Poses], batch: Batch) -> list[Poses]:
    """Poses from input pixels to photograph pixels by `batch.to_image_B23` (boxes by their corners).

    Masks stay at the input's size: whoever writes them warps them.
    """
    return [_mapped(pose, matrix) for pose, matrix in zip(poses, batch.to_image_B23, strict=True)]


def _mapped(pose: Poses, matrix_23: Tensor) -> Poses:
    def points(point_NM2: Tensor) -> Tensor:
        return apply_affine(point_NM2, matrix_23.expand(point_NM2.shape[0], 2, 3)).float()

    joint = torch.cat([points(pose.joint_NK3[..., :2]), pose.joint_NK3[..., 2:].float()], dim=-1)
    box = None
    if pose.box_N4 is not None:
        x1, y1, x2, y2 = pose.box_N4.unbind(-1)
        corner_N42 = points(torch.stack([x1, y1, x2, y1, x2, y2, x1, y2], dim=-1).view(-1, 4, 2))
        box = torch.cat([corner_N42.amin(1), corner_N42.amax(1)], dim=-1)
    extra = None
    if pose.extra is not None:
        extra = {name: points(t) if name.endswith("_NK2") else t for name, t in pose.extra.items()}
    return replace(pose, joint_NK3=joint, box_N4=box, extra=extra)


def crop_area(batch: Batch) -> Tensor:
    """Area of each input in photograph pixels^2, (B,): what OKS-NMS of the person view uses (the padded box)."""
    width, height = batch.input_wh
    m = batch.to_image_B23
    return (m[:, 0, 0] * m[:, 1, 1] - m[:, 0, 1] * m[:, 1, 0]).abs() * width * height


def pose_area(pose: Poses) -> Tensor:
    """Area of each pose, (N,): its box where `decode` gave one, else the extent of its joints (OKS-NMS, image view)."""
    if pose.box_N4 is not None:
        return (pose.box_N4[:, 2:] - pose.box_N4[:, :2]).clamp(min=0).prod(-1)
    point_NK2 = pose.joint_NK3[..., :2]
    return (point_NK2.amax(1) - point_NK2.amin(1)).prod(-1)
