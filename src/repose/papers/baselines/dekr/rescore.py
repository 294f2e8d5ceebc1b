"""DEKR's rescoring network: how good a pose is, guessed from its shape and its joints' scores.

It is trained apart, on the predictions of a finished network on training images (`collect`, then `fit`), and
`decode.rescore` names its file. Shapes: N poses, K joints, L limbs, D features.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from repose.engine.module import PoseModule
from repose.errors import UserError
from repose.geometry import apply_affine
from repose.ops.oks import oks
from repose.skeleton import Skeleton
from repose.types import Batch

_HIDDEN = 256
_LEAST_TORSO = 1.0
"""[pixels] shorter torsos are taken as this long."""
_TORSO = tuple((f"{side}_shoulder", f"{side}_hip") for side in ("left", "right"))


class RescoreNet(nn.Module):
    """Features -> 256 -> 256 -> OKS (DEKR's code)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1)
        )

    def forward(self, feature_ND: Tensor) -> Tensor:
        """Predicted OKS, (N,)."""
        return self.layers(feature_ND)[:, 0]


def pose_features(joint_NK3: Tensor, skeleton: Skeleton) -> Tensor:
    """Limb vectors and their lengths over the torso's, and the joints' scores: (N, 3 L + K).

    The torso is the mean of both shoulder-to-hip distances; a skeleton without them is measured by its mean limb.
    Differs from the release: limbs are the skeleton's, and its CrowdPose features divide by a leg, not the torso (its
    limb numbers are COCO's).
    """
    first, second = (list(end) for end in zip(*skeleton.limb_index, strict=True))
    point_NK2 = joint_NK3[..., :2]
    limb_NL2 = point_NK2[:, first] - point_NK2[:, second]
    length_NL = limb_NL2.norm(dim=-1)
    torso = [(skeleton.index(a), skeleton.index(b)) for a, b in _TORSO if {a, b} <= set(skeleton.joints)]
    if torso:
        upper, lower = (list(end) for end in zip(*torso, strict=True))
        unit_N = (point_NK2[:, upper] - point_NK2[:, lower]).norm(dim=-1).mean(-1)
    else:
        unit_N = length_NL.mean(-1)
    unit_N1 = unit_N.clamp(min=_LEAST_TORSO)[:, None]
    return torch.cat([(limb_NL2 / unit_N1[..., None]).flatten(1), length_NL / unit_N1, joint_NK3[..., 2]], dim=-1)


@torch.no_grad()
def collect(module: PoseModule, batches: Iterable[list[Batch]]) -> tuple[Tensor, Tensor]:
    """Features of all predicted poses and their best OKS with a person of their image: (N, D) and (N,).

    Args:
        module: a trained DEKR, with decode.rescore=null.
        batches: test batches (one per test scale) of training images, on the module's device.
    """
    module.eval()
    features, values = [], []
    for views in batches:
        evaluated, people = module.evaluate(views), views[0].people
        point = apply_affine(people.joint_NK3[..., :2], views[0].to_image_B23[people.owner_N])
        truth_MK3 = torch.cat([point, people.joint_NK3[..., 2:].to(point)], dim=-1)
        for image, (pose, pose_img) in enumerate(zip(evaluated.poses, evaluated.poses_img, strict=True)):
            mine = people.owner_N == image
            if not pose.n:
                continue
            found_NM = oks(pose_img.joint_NK3[..., :2], truth_MK3[mine], people.area_N[mine], module.skeleton.sigmas)
            features.append(pose_features(pose.joint_NK3, module.skeleton).cpu())
            values.append((found_NM.amax(1) if found_NM.shape[1] else found_NM.new_zeros(pose.n)).float().cpu())
    if not features:
        raise UserError("rescoring: no pose was found on these images, so there is nothing to learn from")
    return torch.cat(features), torch.cat(values)


def fit(
    feature_ND: Tensor, oks_N: Tensor, seed: int = 0, epochs: int = 20, batch: int = 1024, lr: float = 1e-3
) -> RescoreNet:
    """Train the network by mean squared error with Adam; the release's 20 epochs of batches of 1024.

    Args:
        feature_ND: of `collect`.
        oks_N: of `collect`.
        seed: of the start and of the order.
        epochs: passes over the poses.
        batch: poses per step; fewer poses than it are one step.
        lr: learning rate.
    """
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = RescoreNet(feature_ND.shape[1])
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(epochs):
        for chosen in torch.randperm(len(feature_ND), generator=draws).split(batch):
            loss = (net(feature_ND[chosen]) - oks_N[chosen]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def save(net: RescoreNet, path: str | Path) -> None:
    """Write the weights, through a file beside it."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    torch.save(net.state_dict(), part)
    part.replace(path)


def read(path: str, skeleton: Skeleton) -> RescoreNet:
    """The network of a file that `save` wrote.

    Raises:
        UserError: no such file, no weights in it, or those of another skeleton.
    """
    if not Path(path).is_file():
        raise UserError(f"decode.rescore={path}: no such file; train one (README of baselines/dekr), or set it to null")
    net = RescoreNet(3 * len(skeleton.limbs) + skeleton.k)
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"decode.rescore={path}: not the weights of a rescoring network for {skeleton.name}: {reason}"
        ) from None
    return net.eval().requires_grad_(False)
