"""The settings every experiment has. A paper's `config.py` adds `model`, `loss`, `decode` and its own defaults.

Each field's docstring reads `[unit] text | source`; `repose show` prints it beside the value and where that came from.
No torch here: `repose show` and `--help` must answer at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from repose.errors import UserError
from repose.skeleton import SKELETONS, Skeleton

SCHEMA = 1
"""Number of this schema; written into checkpoints. It grows when a key is renamed or removed."""


@dataclass(frozen=True)
class SkeletonBlock:
    """A joint set: one of the known ones by name alone, or a custom one written out."""

    name: str = "coco17"
    """coco17, crowdpose14 or mpii16; any other name needs the fields below"""
    joints: tuple[str, ...] = ()
    """joint names in the order of the annotation file; empty = the known skeleton of that name"""
    flip_pairs: tuple[tuple[str, str], ...] = ()
    """(left, right) names that trade places in a mirrored image"""
    limbs: tuple[tuple[str, str], ...] = ()
    """joint pairs drawn as lines"""
    sigmas: tuple[float, ...] = ()
    """[sqrt(area)] one OKS sigma per joint | COCO keypoint evaluation"""
    groups: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """named joint lists a method may need (upper, lower, parts)"""

    def build(self) -> Skeleton:
        """The skeleton.

        Raises:
            UserError: an unknown name without joints, or a block that contradicts itself.
        """
        if not self.joints:
            if self.name not in SKELETONS:
                raise UserError(
                    f"skeleton.name={self.name!r} is not one of {', '.join(SKELETONS)}; "
                    "a custom skeleton needs joints, flip_pairs, limbs and sigmas in the `skeleton:` block"
                )
            known = SKELETONS[self.name]
            if not self.sigmas:
                return known
            return Skeleton(known.name, known.joints, known.flip_pairs, known.limbs, self.sigmas, known.groups)
        return Skeleton(self.name, self.joints, self.flip_pairs, self.limbs, self.sigmas, dict(self.groups))


@dataclass(frozen=True)
class Draw:
    """A random draw, made with probability `p` (else the neutral value)."""

    p: float = 0.0
    """[probability] how often the draw is made"""
    range: tuple[float, float] = (0.0, 0.0)
    """[unit of what is drawn] lowest and highest value"""
    distribution: Literal["uniform", "inverse", "truncnorm", "clipnorm1", "clipnorm2"] = "uniform"
    """inverse: 1 / value is uniform (a zoom, where the value scales the surroundings); truncnorm: a standard normal
    truncated to [-1, 1], stretched over the range; clipnorm1, clipnorm2: a normal whose draws beyond 1 or 2 standard
    deviations are put at the range's ends (HRNet's scale and rotation)"""


@dataclass(frozen=True)
class HalfBody:
    """Crop to the upper or lower half of a person."""

    p: float = 0.0
    """[probability]"""
    min_labelled: int = 9
    """[joints] people with fewer labelled joints keep their box"""
    min_upper: int = 2
    """[joints] labelled joints that an upper half needs"""
    min_lower: int = 3
    """[joints] labelled joints that a lower half needs"""
    upper_p: float = 0.7
    """[probability] of the upper half where both are possible"""
    padding: float = 1.5
    """[factor] of the extent of the chosen joints"""


@dataclass(frozen=True)
class Hole:
    """One rectangle painted black (CoarseDropout); labels stay."""

    p: float = 0.0
    """[probability]"""
    side: tuple[float, float] = (0.2, 0.4)
    """[share of the input's side] smallest and largest height and width"""


@dataclass(frozen=True)
class Augment:
    """Augmentation as data; geometry is folded into the one affine warp, colours are drawn by albumentations."""

    flip: float = 0.0
    """[probability] mirror, with left and right joints swapped"""
    half_body: HalfBody = HalfBody()
    scale: Draw = Draw()
    """[factor] of the box (or image); above 1 shows more surroundings"""
    rotation: Draw = Draw()
    """[degrees]"""
    shift: Draw = Draw()
    """[share of the side that shift_unit names] of the centre, x and y drawn apart"""
    shift_unit: Literal["longer", "base", "box"] = "longer"
    """longer = of the box's (or image's) longer side; base = of the crop's shorter side after the scale draw"""
    hue: Draw = Draw()
    """[OpenCV hue steps of 2 degrees] added"""
    saturation: Draw = Draw()
    """[0-255] added"""
    value: Draw = Draw()
    """[0-255] added"""
    blur: float = 0.0
    """[probability] box blur, kernel 3 to 7"""
    median_blur: float = 0.0
    """[probability] median blur, kernel 3 to 7"""
    hole: Hole = Hole()


@dataclass(frozen=True)
class Synthetic:
    """The embedded data set: drawn people, made on first use, deterministic by (seed, split, index)."""

    train: int = 2000
    """[images] in the train split"""
    val: int = 300
    """[images] in the val split"""
    size: tuple[int, int] = (256, 320)
    """[pixels] height, width"""
    people: tuple[int, int] = (1, 4)
    """[people per image] fewest, most"""
    crowding: Literal["sparse", "crowded", "pairs"] = "sparse"
    """pairs = two people who overlap heavily, as in OCHuman"""
    seed: int = 0


@dataclass(frozen=True)
class Data:
    """A data set, how it is cut into network inputs, and its evaluation protocol."""

    name: str = "coco"
    """printed beside every AP"""
    root: str | None = None
    """[folder] of the data set; relative ones are looked up below $REPOSE_DATA, else below data/"""
    train_json: str = "annotations/person_keypoints_train2017.json"
    """[file below root] COCO-format annotations"""
    train_images: str = "train2017"
    """[folder below root]"""
    val_json: str = "annotations/person_keypoints_val2017.json"
    """[file below root]"""
    val_images: str = "val2017"
    """[folder below root]"""
    download: str = ""
    """what to download and where it goes; printed when the folder is missing"""
    detections: str | None = None
    """[file below root] COCO results with person boxes, used by boxes=detections"""
    boxes: str = "gt"
    """source of test boxes, printed beside every AP: gt | detections | a COCO result file"""
    oks_area: Literal["annotation", "box*0.53"] = "annotation"
    """area of OKS; annotation = the file's `area` (missing ones are an error), printed beside the AP"""
    min_keypoints: int = 1
    """[joints] people with fewer labelled joints are not trained on"""
    min_image_keypoints: int = 0
    """[joints] image view: photographs whose people have fewer (the file's num_keypoints, summed) are not trained on"""
    train_on: Literal["poses", "annotated"] = "poses"
    """image view: photographs with a labelled pose (of min_keypoints), or all with an annotation"""
    swapped_size: Literal["refuse", "photograph"] = "refuse"
    """a json with width and height swapped (early CrowdPose files): refuse it, or take the photographs' own sizes"""
    val_labelled: bool = True
    """False = val_json lists images only (COCO's test-dev): a test writes a submission, not an AP"""
    limit_train: int | None = None
    """[images] train on the first n only"""
    limit_val: int | None = None
    """[images] evaluate the first n only"""

    view: Literal["person", "image"] = "person"
    """person = one crop per person (top-down), image = one image with all its people (bottom-up)"""
    input_size: tuple[int, int] = (256, 192)
    """[pixels] height, width of the network input"""
    base: Literal["box", "short", "long"] = "box"
    """what fills the input before the scale draw: the person's box, or the image's shorter or longer side"""
    centre: Literal["box", "image", "person"] = "box"
    """centre of the crop: the box, the image, or a person drawn at random"""
    padding: float = 1.25
    """[factor] of the box, person view"""
    border: Literal["black", "mean"] = "black"
    """colour outside the photograph; mean = the normalisation's mean"""
    test_multiple: int = 32
    """[pixels] image view, in a test: canvas sides are padded to a multiple of it"""
    test_place: Literal["corner", "centre"] = "corner"
    """image view, in a test: where the photograph lies on its canvas; centre = all scales share one centre"""
    test_scales: tuple[float, ...] = (1.0,)
    """[factor] one warp of the photograph per scale in a test; 1.0 comes first"""
    masks: Literal["none", "stride4", "full"] = "none"
    """instance masks to ship; crowd, unlabelled and photograph masks come with them"""
    regions: bool = False
    """ship the crowd, unlabelled and photograph masks (stride 4) without instance masks"""

    augment: Augment = Augment()
    """augmentation of training"""
    augment_final: Augment | None = None
    """augmentation of the last epochs (two-stage augmentation); null = the same throughout"""
    final_share: float = 0.0
    """[share of the epochs] that use augment_final"""

    workers: int | None = None
    """[processes] loading data; null = one per core, at most 8"""
    cache: Literal["auto", "on", "off"] = "auto"
    """decoded-image cache; auto = if it fits cache_gb and half the free disk"""
    cache_gb: float = 10.0
    """[GB] most that cache=auto may take"""
    cache_dir: str | None = None
    """[folder] null = .cache beside the data set, or below data/ where that cannot be written"""
    check: bool = False
    """validate the data set first and refuse to train on errors (else bad images are skipped, counted and named)"""
    synthetic: Synthetic | None = None
    """draw this data set on first use"""


@dataclass(frozen=True)
class Ema:
    """Exponential moving average of weights and buffers; evaluation and export use it."""

    decay: float | None = None
    """[0-1] null = no average"""
    ramp: float = 0.0
    """[steps] momentum_t = (1 - m) exp(-(1 + t) / ramp) + m with m = 1 - decay; 0 = no ramp | RTMPose's 2000"""


@dataclass(frozen=True)
class Optim:
    """Optimiser and learning-rate schedule."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    base_lr: float = 1e-3
    """[per base_batch] learning rate at a global batch of base_batch; scaled linearly, and printed"""
    base_batch: int = 256
    """[samples] global batch that base_lr is for"""
    weight_decay: float = 0.0
    decay_1d: bool = False
    """False = norm weights and all biases (1-D tensors) are exempt from weight decay"""
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    """SGD only"""
    schedule: Literal["constant", "flat_cosine", "multi_step", "plateau"] = "constant"
    warmup_steps: int = 0
    """[steps] linear warm-up"""
    warmup_factor: float = 1e-5
    """[factor] of the learning rate at step 0"""
    flat_share: float = 0.5
    """[share of training] constant part of flat_cosine"""
    final_factor: float = 0.05
    """[factor] of the learning rate at the end of flat_cosine; the least of plateau"""
    milestones: tuple[float, ...] = ()
    """[share of training] where multi_step multiplies by gamma"""
    gamma: float = 0.1
    """[factor] of multi_step and plateau"""
    patience: int = 5
    """[evaluations] without a better AP before plateau steps"""
    clip_norm: float | None = None
    """[gradient norm] null = no clipping"""
    ema: Ema = Ema()


@dataclass(frozen=True)
class Train:
    """The training run."""

    epochs: int = 1
    """[epochs]"""
    batch: int = 32
    """[samples] global batch, over all devices and accumulation steps; fixed, part of the run's identity"""
    device_batch: int | None = None
    """[samples] most that one device takes at once; null = batch / devices; accumulation follows from it"""
    val_every: int = 1
    """[epochs] between evaluations"""
    keep: Literal["best", "last"] = "best"
    """the evaluation that is reported and whose weights best.ckpt holds. best = the highest AP, which is chosen on the
    data that it is reported on: tables say of how many"""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """auto = bf16 on GPUs that have it and on CPUs with AMX, else 32; what was taken is printed beside every AP"""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int | None = None
    """[devices] null = all GPUs, or one CPU process"""
    nodes: int = 1
    strategy: str = "auto"
    """Lightning strategy: auto, ddp, ..."""
    sync_bn: bool = True
    """synchronise batch norm where there is more than one device"""
    compile: bool = False
    """torch.compile the network"""
    threads: int | None = None
    """[threads] of torch on the CPU; null = torch's own choice"""
    start_threads: int | None = None
    """[threads] likewise, while the experiment that `init` names is trained; null = as `threads`"""
    deterministic: bool = False
    """force deterministic kernels (warns where there is none)"""
    checkpoint_every: int | None = None
    """[steps] also write last.ckpt every n steps; null = at each evaluation"""
    debug: Literal["off", "overfit", "fast", "profile", "anomaly"] = "off"
    """overfit = one batch again and again; fast = one step of everything; profile and anomaly as Lightning's"""


@dataclass(frozen=True)
class Test:
    """Evaluation."""

    batch: int = 64
    """[samples]"""
    flip: bool = True
    """average with the mirrored view"""
    oks_nms: float | None = 0.9
    """[OKS] greedy non-maximum suppression per image; null = none | COCO top-down convention"""
    joint_threshold: float = 0.2
    """[score] person view: instance score = box score x mean of joint scores above this | COCO top-down convention"""
    max_people: int = 20
    """[people per image] maxDets of COCO's evaluation"""
    subsets: Literal["none", "crowd_index", "iou_bins"] = "none"
    """image subsets with an AP of their own; crowd_index = AP_E, AP_M, AP_H below 0.2, from 0.2 and 0.8 on (COCO's
    numbers by size are left out), iou_bins = AP_IoU50_60 ... and AP_IoU50_up ... (at least 0.5) | CrowdPose's
    evaluation; PINet Fig. 5"""
    iou_reduce: Literal["mean", "max"] = "mean"
    """iou_bins: overlap of an image = mean or largest of its people's largest box IoU with another person | PINet
    Fig. 5 says average; max is OPEC-Net's"""
    iou_edges: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    """[IoU] edges of the bins; a bin holds its lower edge | PINet Fig. 5"""
    max_masks: int = 100
    """[people per image] maxDets of mask AP, which is evaluated where a method gives masks and the data have them"""
    mask_people: Literal["all", "labelled"] = "all"
    """people of mask AP; labelled = those without labelled joints are ignored like crowd regions | COCO has all"""
    save_pictures: int = 8
    """[images] drawn predictions per evaluation"""
    runtime: Literal["torch", "onnx", "onnx-int8"] = "torch"
    """what runs the network in a test; the others export it first (`repose export`), int8 calibrated with training data
    | DRP-Net Table 4"""


@dataclass(frozen=True)
class Log:
    """Where a run is written and what is logged."""

    runs: str = "runs"
    """[folder] of all runs"""
    dir: str | None = None
    """[folder] of this run; null = runs/<paper>/<name>-<identity>"""
    wandb: Literal["auto", "off", "offline", "online"] = "auto"
    """auto = online with a key, else off"""
    project: str = "repose"
    """W&B project"""
    group: str | None = None
    """W&B group; a table's runs carry the table's name"""
    tags: tuple[str, ...] = ()
    """W&B tags; the paper is always one"""
    every: int = 50
    """[steps] between lines of metrics.jsonl"""
    progress: bool = True
    """progress bar with ETA"""


@dataclass(frozen=True)
class ExperimentBase:
    """What every paper's `Experiment` has; papers add `model`, `loss`, `decode` and their own defaults."""

    paper: str = ""
    """name of the paper's folder"""
    name: str = "run"
    """of the experiment; names the run folder"""
    title: str = ""
    """one line for tables"""
    scale: str = "paper"
    """name of the scale overlay that was applied; printed beside every number"""
    seed: int = 21
    """of everything random | RTMPose's seed"""
    init: str | None = None
    """[file or experiment] weights to start from; an experiment is trained first, once, for all that name it"""
    resume: str | None = None
    """auto = go on from this run's last checkpoint if there is one; or a checkpoint file"""
    checkpoint: str | None = None
    """[file or run folder] what `test` and `predict` evaluate"""
    predictions: str | None = None
    """[file] COCO results to score by `repose test` without a model"""
    paper_value: dict[str, float] = field(default_factory=dict[str, float])
    """the paper's numbers for this experiment, by metric"""
    skeleton: SkeletonBlock = SkeletonBlock()
    data: Data = Data()
    optim: Optim = Optim()
    train: Train = Train()
    test: Test = Test()
    log: Log = Log()

    def joint_set(self) -> Skeleton:
        """The skeleton of the data."""
        return self.skeleton.build()


NOT_IDENTITY = (
    "log",
    "title",
    "name",
    "resume",
    "checkpoint",
    "predictions",
    "paper_value",
    "data.root",
    "data.download",
    "data.workers",
    "data.cache",
    "data.cache_gb",
    "data.cache_dir",
    "data.check",
    "train.device_batch",
    "train.accelerator",
    "train.devices",
    "train.nodes",
    "train.strategy",
    "train.compile",
    "train.threads",
    "train.start_threads",
    "train.checkpoint_every",
    "test.batch",
    "test.save_pictures",
)
"""Keys that say where and how fast a run goes, not what it computes: left out of its identity."""


LATER: dict[str, Any] = {"test.runtime": "torch", "train.keep": "best"}
"""Keys that came after runs had been published, and the value that says what those runs did: at it, they are left out
of the identity, which so stays what it was."""


@dataclass(frozen=True)
class Paper:
    """A method: its schema, and its LightningModule behind a function, so that knowing the schema imports no torch.

    Attributes:
        name: folder name.
        title: title of the paper.
        schema: the paper's `Experiment` dataclass.
        module: imports and returns the PoseModule subclass.
    """

    name: str
    title: str
    schema: type[ExperimentBase]
    module: Callable[[], Any]
