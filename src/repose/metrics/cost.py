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
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich.tree import Tree
from torch import Tensor, nn

from repose.errors import UserError

# Element-wise work, copies and selections: under a thousandth of a network's cost, and free in every paper's count.
_FREE_NAMES = """
    __and__ __or__ _shape_as_tensor abs adaptive_max_pool2d add add_ addcmul alias all amax amin any arange argmax
    avg_pool2d bitwise_and bitwise_not broadcast_tensors cat ceil chunk clamp clamp_ clamp_max clamp_min clone
    constant_pad_nd contiguous copy_ cos cumsum detach div div_ dropout eq erf exp exp_ expand expand_as
    feature_dropout fill_ flatten flip floor floor_ floor_divide fmod frobenius_norm full full_like gather ge gelu
    gelu_ glu gt hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ im2col index index_put_
    index_select le leaky_relu leaky_relu_ lift_fresh linalg_vector_norm linspace log log2 log_softmax logical_and
    logical_not logical_or lt masked_fill masked_fill_ max max_pool2d maximum mean meshgrid min minimum mish mish_
    mul mul_ narrow ne neg new_zeros nonzero norm numpy_T ones ones_like pad permute pixel_shuffle pixel_unshuffle
    pow prelu reciprocal relu relu6 relu_ remainder repeat repeat_interleave reshape reshape_as roll round rsqrt
    rsub scatter scatter_ select sigmoid sigmoid_ sign silu silu_ sin slice softmax softplus sort split
    split_with_sizes sqrt square squeeze stack std sub sub_ sum t tanh tanh_ to topk transpose type_as unbind
    unflatten unfold unsqueeze upsample_nearest1d upsample_nearest3d view view_as where zeros zeros_like
"""
_FREE = frozenset(f"aten::{name}" for name in _FREE_NAMES.split()) | {"torchvision::nms"}

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
        input_size: height and width of the input.
        unsupported: operations that nobody counts; empty unless `count` was told not to refuse them.
        free: operations that were called and count as nothing (activations, copies), with how often.
        modules: dotted module name -> parameters and MACs; "" is the network.
    """

    params: int
    macs: float
    by_op: dict[str, float]
    input_size: tuple[int, int]
    unsupported: list[str] = field(default_factory=list[str])
    free: dict[str, int] = field(default_factory=dict[str, int])
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


def count(net: nn.Module, example: Tensor, strict: bool = True) -> Cost:
    """Count a network in eval mode on one example, in place: weights, buffers and modes stay as they are.

    Args:
        net: any network that torch can trace; its forward is counted, decoding and flip test are not part of it.
        example: (1, C, H, W) input on the network's device.
        strict: refuse operations that nobody counts; False lists them in `unsupported`.

    Raises:
        UserError: an operation that is neither counted nor known to be free; it needs a handle here.
    """
    if example.shape[0] != 1:
        raise ValueError(f"costs are of one image; the example is a batch of {example.shape[0]}")
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad(), _quiet():
            warnings.simplefilter("ignore")  # fvcore and torch.jit deprecations, on every call
            from fvcore.nn import FlopCountAnalysis

            analysis = FlopCountAnalysis(net, example)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            analysis.set_op_handle(**_HANDLES)
            by_name = dict(analysis.by_operator())
            by_module = {name: float(macs) for name, macs in analysis.by_module().items()}
            skipped = {str(name): int(n) for name, n in sorted(analysis.unsupported_ops().items())}
    finally:
        for module, training in modes:
            module.training = training
    unknown = [name for name in skipped if name not in _FREE]
    if unknown and strict:
        raise UserError(
            f"cost: nobody counts {', '.join(unknown)}; give it a handle in metrics/cost.py (or list it as free), "
            "or the printed GMACs would be too low"
        )
    by_op = {group: 0.0 for group in BY_OP}
    for name, macs in by_name.items():
        by_op[_GROUPS.get(name, "other")] += float(macs)
    return Cost(
        params=sum(p.numel() for p in net.parameters()),
        macs=float(sum(by_name.values())),
        by_op=by_op,
        input_size=(int(example.shape[-2]), int(example.shape[-1])),
        unsupported=unknown,
        free={name: n for name, n in skipped.items() if name in _FREE},
        modules=_modules(net, by_module),
    )


def _modules(net: nn.Module, by_module: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Parameters and MACs of every module; a container that is never called itself (ModuleList) has its children's."""
    names = [name for name, _ in net.named_modules()]
    macs = {name: by_module.get(name, 0.0) for name in names}
    for name in reversed(names):  # children come after their parents
        if name and not macs[name]:
            macs[name] = sum(m for child, m in macs.items() if child.rpartition(".")[0] == name)
    return {
        name: {"params": sum(p.numel() for p in module.parameters()), "macs": macs[name]}
        for name, module in net.named_modules()
    }


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Without fvcore's line for each skipped operation; they are checked instead."""
    logger = logging.getLogger("fvcore")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def _convolution(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """As fvcore, with transposed convolutions under a name of their own."""
    weight, transposed = math.prod(_shape(inputs[1])), bool(inputs[6].toIValue())
    cells = _shape(inputs[0]) if transposed else _shape(outputs[0])
    return Counter({"deconv" if transposed else "conv": cells[0] * weight * math.prod(cells[2:])})


def _bicubic(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Sixteen taps per value, as fvcore counts four for bilinear."""
    return Counter({"upsample_bicubic2d": 16 * math.prod(_shape(outputs[0]))})


def _roi_align(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Four bilinear taps per sample: 4 C S^2 r^2 per ROI, r = sampling ratio (DRP-Net's FLOP rule).

    An adaptive ratio (<= 0) depends on the boxes, which a trace does not have; it counts as detectors' usual fixed one.
    """
    ratio = int(inputs[5].toIValue() or 0)
    return Counter({"roi_align": 4 * math.prod(_shape(outputs[0])) * (ratio if ratio > 0 else _ADAPTIVE_RATIO) ** 2})


def _deform_conv2d(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """The convolution itself (output values x input channels per group x kernel), without the bilinear taps."""
    weight = _shape(inputs[1])
    return Counter({"deform_conv2d": math.prod(_shape(outputs[0])) * math.prod(weight[1:])})


def _attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Q K^T and its product with V."""
    query, key, value = (_shape(v) for v in inputs[:3])
    rows = math.prod(query[:-1])
    return Counter({"scaled_dot_product_attention": rows * key[-2] * (query[-1] + value[-1])})


_ADAPTIVE_RATIO = 2
_HANDLES = {
    "aten::_convolution": _convolution,
    "aten::upsample_bicubic2d": _bicubic,
    "aten::scaled_dot_product_attention": _attention,
    "torchvision::roi_align": _roi_align,
    "torchvision::deform_conv2d": _deform_conv2d,
}


def render(cost: Cost, depth: int = 3) -> Tree:
    """A tree of modules with their parameters and MACs, down to `depth` levels; modules without either are left out."""
    tree = Tree(_line("network", cost.modules[""]))
    nodes = {"": tree}
    for name, values in cost.modules.items():
        parent, _, last = name.rpartition(".")
        if name and name.count(".") < depth and parent in nodes and (values["params"] or values["macs"]):
            nodes[name] = nodes[parent].add(_line(last, values))
    shares = ", ".join(f"{op} {macs / 1e6:.1f} M" for op, macs in cost.by_op.items() if macs)
    tree.add(f"MACs by operation: {shares}")
    return tree


def _line(name: str, values: Mapping[str, float]) -> str:
    return f"{name}: {values['params'] / 1e6:.3f} M parameters, {values['macs'] / 1e6:.1f} M MACs"
