# fvcore has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
"""Parameters and multiply-accumulate operations (MACs) of a network, as pose papers print them.

fvcore counts one fused multiply-add as one: what papers call GFLOPs. Added here: RoIAlign, deformable convolution and
scaled dot-product attention, which fvcore counts as nothing without saying so. An operation that nobody counts and that
is not known to be free is an error, because a silently missing operation is a wrong number in a table.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich.tree import Tree
from torch import Tensor, nn

from repose.errors import UserError

# Element-wise work, copies and selections: under a thousandth of a network's cost, and free in every paper's count.
_FREE = frozenset(
    """abs add add_ addcmul adaptive_max_pool2d arange argmax avg_pool2d bitwise_and bitwise_not broadcast_tensors cat chunk
    clamp clamp_ clamp_max clamp_min clone constant_pad_nd contiguous copy_ cos cumsum detach div div_ eq erf exp exp_ expand
    expand_as fill_ flatten flip floor floor_divide full full_like gather ge gelu gelu_ glu gt hardsigmoid hardsigmoid_
    hardswish hardswish_ hardtanh hardtanh_ im2col index index_put_ index_select le leaky_relu leaky_relu_ linspace log
    log_softmax logical_and logical_not logical_or lt masked_fill masked_fill_ max max_pool2d maximum mean meshgrid min minimum
    mish mish_ mul mul_ narrow ne neg new_zeros nms norm normalize nonzero norm numpy_T ones ones_like pad permute pixel_shuffle
    pixel_unshuffle pow prelu reciprocal relu relu_ relu6 repeat repeat_interleave reshape reshape_as roll rsqrt rsub scatter
    scatter_ select sigmoid sigmoid_ sign silu silu_ sin slice softmax softplus sort split split_with_sizes sqrt square squeeze
    stack std sub sub_ sum t tanh tanh_ to topk transpose type_as unbind unflatten unfold unsqueeze upsample_nearest1d view
    view_as where zeros zeros_like _shape_as_tensor __and__ __or__ bernoulli_ dropout feature_dropout alias lift_fresh
    linalg_vector_norm amax amin any all floor_ ceil round remainder fmod frobenius_norm""".split()
)

_GROUPS = {
    "conv": "conv",
    "deconv": "deconv",
    "linear": "linear",
    "addmm": "linear",
    "matmul": "linear",
    "bmm": "linear",
    "einsum": "linear",
    "mm": "linear",
    "batch_norm": "norm",
    "layer_norm": "norm",
    "group_norm": "norm",
    "instance_norm": "norm",
    "deform_conv2d": "deform",
    "roi_align": "roi_align",
    "scaled_dot_product_attention": "attention",
    "upsample_nearest2d": "upsample",
    "upsample_bilinear2d": "upsample",
    "upsample_bicubic2d": "upsample",
    "grid_sampler": "upsample",
}
BY_OP = ("conv", "deconv", "linear", "norm", "deform", "roi_align", "attention", "upsample", "other")


@dataclass(frozen=True)
class Cost:
    """What a network costs for one image.

    Attributes:
        params: number of parameters.
        macs: multiply-accumulates, fvcore's total with our handles.
        by_op: MACs by kind of operation (`BY_OP`).
        unsupported: operations that were called and count nothing, with how often.
        modules: dotted module name -> parameters and MACs; "" is the network.
        input_size: height and width of the input.
    """

    params: int
    macs: float
    by_op: dict[str, float]
    input_size: tuple[int, int]
    unsupported: list[str] = field(default_factory=list[str])
    modules: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])

    @property
    def params_mi(self) -> float:
        """Parameters / 2^20: how some papers print millions."""
        return self.params / 2**20

    @property
    def conv_macs(self) -> float:
        """MACs of convolutions alone, which is what many papers count."""
        return self.by_op["conv"] + self.by_op["deconv"]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {**asdict(self), "input_size": list(self.input_size), "params_mi": self.params_mi}


def count(net: nn.Module, example: Tensor) -> Cost:
    """Count a network in eval mode on one example; decoding and flip test are not part of it.

    Args:
        net: any network that torch can trace.
        example: (1, C, H, W) input on the network's device.

    Raises:
        UserError: an operation that is neither counted nor known to be free; it needs a handle here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore and torch.jit deprecations, on every call
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(net, example)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        analysis.set_op_handle(
            **{
                "torchvision::roi_align": _roi_align,
                "torchvision::deform_conv2d": _deform_conv2d,
                "aten::scaled_dot_product_attention": _attention,
            }
        )
        modes = {name: module.training for name, module in net.named_modules()}
        net.eval()
        try:
            with torch.no_grad(), _quiet():
                by_name = dict(analysis.by_operator())
                by_module = dict(analysis.by_module())
                skipped = dict(analysis.unsupported_ops())
        finally:
            for name, module in net.named_modules():
                module.training = modes[name]
    _refuse_unknown(skipped)
    by_op = Counter({group: 0.0 for group in BY_OP})
    for name, macs in by_name.items():
        by_op[_GROUPS.get(name, "other")] += float(macs)
    params = {name: sum(p.numel() for p in module.parameters()) for name, module in net.named_modules()}
    modules = {name: {"params": n, "macs": float(by_module.get(name, 0.0))} for name, n in params.items()}
    return Cost(
        params=params[""],
        macs=float(sum(by_name.values())),
        by_op=dict(by_op),
        input_size=(int(example.shape[-2]), int(example.shape[-1])),
        unsupported=[],
        modules=modules,
    )


def _refuse_unknown(skipped: Mapping[str, int]) -> None:
    unknown = sorted(op for op in skipped if op.rpartition("::")[2] not in _FREE)
    if unknown:
        raise UserError(
            f"cost: nobody counts {', '.join(unknown)}; give it a handle in metrics/cost.py (or list it as free), "
            "or the printed GMACs would be too low"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """fvcore logs each skipped operation; they are checked above instead."""
    logger = logging.getLogger("fvcore")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def _roi_align(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Four bilinear taps per sample: 4 C S^2 r^2 per ROI. r = sampling ratio; an adaptive one (<= 0) counts as 1."""
    ratio = max(int(inputs[5].toIValue()), 1)
    return Counter({"roi_align": 4 * math.prod(_shape(outputs[0])) * ratio**2})


def _deform_conv2d(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """The convolution itself: output cells x input channels per group x kernel."""
    weight = _shape(inputs[1])
    return Counter({"deform_conv2d": math.prod(_shape(outputs[0])) * math.prod(weight[1:])})


def _attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Q K^T and its product with V."""
    query, key, value = (_shape(v) for v in inputs[:3])
    rows = math.prod(query[:-1])
    return Counter({"scaled_dot_product_attention": rows * key[-2] * (query[-1] + value[-1])})


def render(cost: Cost, depth: int = 3) -> Tree:
    """A tree of modules with their parameters and MACs, down to `depth` levels."""
    tree = Tree(_line("network", cost.modules[""]))
    nodes = {"": tree}
    for name, values in cost.modules.items():
        if not name or name.count(".") >= depth or not (values["params"] or values["macs"]):
            continue
        parent, _, last = name.rpartition(".")
        nodes[name] = nodes[parent].add(_line(last, values))
    shares = ", ".join(f"{op} {macs / 1e6:.1f} M" for op, macs in cost.by_op.items() if macs)
    tree.add(f"MACs by operation: {shares}")
    return tree


def _line(name: str, values: Mapping[str, float]) -> str:
    return f"{name}: {values['params'] / 1e6:.3f} M parameters, {values['macs'] / 1e6:.1f} M MACs"
