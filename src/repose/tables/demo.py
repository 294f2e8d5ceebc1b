# pyright: reportUnknownMemberType=false
"""`make demo`: within a minute a picture and a tiny table, so that a newcomer sees that everything works."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table as TextTable

from repose import papers, viz
from repose.config import Loaded, experiments_root, load
from repose.data.preview import write
from repose.engine.logging import say
from repose.engine.run import build_module, train
from repose.engine.rundir import BEST, read_result, run_dir
from repose.metrics.cost import count
from repose.tables.gallery import prepared
from repose.tables.gallery_drpnet import Seen, look, read_run, well_labelled
from repose.tables.schema import load_table

SIZES = ("drpnet-s", "drpnet-m", "drpnet-l")
"""Rows of the paper's Table 1."""
WORDS = (
    "data=synthetic",
    "scale=mini",
    "name=demo",
    "data.synthetic.train=16",
    "data.synthetic.val=8",
    "data.workers=0",
    "data.augment.scale.p=0",
    "data.augment.rotation.p=0",
    "data.augment.hole.p=0",
    "data.augment.flip=0",
    "train.epochs=40",
    "train.val_every=40",
    "train.batch=16",
    "train.threads=1",  # for so small a network a second thread gains little, and loses all where its core is busy
    "optim.warmup_steps=10",
    "optim.ema.decay=0.9",
    "optim.ema.ramp=0",
    "test.flip=false",
    "test.save_pictures=0",
    "log.wandb=off",
)
"""A few people learnt by heart in seconds: shows that training works, says nothing about a method."""


def demo(out: Path) -> int:
    """Draw people, train DRP-Net on them for seconds, write a picture sheet and print a tiny table.

    Args:
        out: folder for demo.png.

    Returns:
        the exit code, 0.
    """
    begin = time.monotonic()
    loaded = load("drpnet/m", WORDS, find_paper=papers.get)
    result = _trained(loaded)
    people = look(read_run(run_dir(loaded.cfg) / BEST, _on_training_people(loaded), "demo"))
    picture = write(out / "demo.png", _picture(people, loaded))
    _costs()
    learnt = sum(s.oks for s in people) / max(len(people), 1)
    ap = result["metrics"].get("AP")
    print(f"a demo, trained for seconds on {len(people)} drawn people: mean OKS {learnt:.2f} on those very people,")
    print(f"AP {'-' if ap is None else f'{100 * ap:.1f}'} on others. Neither says anything about the method.")
    print(f"picture: {picture}   ({time.monotonic() - begin:.0f} s)")
    print("next: make reproduce-table-3")
    return 0


def _trained(loaded: Loaded) -> dict[str, dict[str, float | None]]:
    folder = run_dir(loaded.cfg)
    result = read_result(folder)
    if result is not None and result.get("status") == "done" and (folder / BEST).is_file():
        say(f"demo: already trained, {folder}")
        return result
    return train(loaded, prepared(loaded))


def _on_training_people(loaded: Loaded) -> Loaded:
    data = loaded.cfg.data
    swapped = replace(data, val_json=data.train_json, val_images=data.train_images)
    return replace(loaded, cfg=replace(loaded.cfg, data=swapped))


def _picture(people: list[Seen], loaded: Loaded) -> viz.Image:
    skeleton = loaded.cfg.joint_set()
    pictures: list[viz.Image] = []
    captions: list[str] = []
    for seen in well_labelled(people, 8):
        large, affine = viz.enlarge(seen.image_HW3, 240)
        pictures.append(viz.draw_poses(large, viz.move(seen.truth_K3[None], affine), skeleton))
        pictures.append(viz.draw_poses(large, viz.move(seen.final_K3[None], affine), skeleton, "score", 0.1))
        captions += ["annotation", f"prediction, OKS {seen.oks:.2f}"]
    title = "DRP-Net demo: people it was trained on, for seconds"
    return viz.sheet(pictures, 8, captions, title, foot=viz.legend())


def _costs() -> None:
    """Parameters and MACs of the three sizes at 256x192, counted now, beside the paper's."""
    import torch

    paper = load_table(experiments_root() / "drpnet" / "tables" / "table-1.yaml")
    table = TextTable(title=f"DRP-Net at 256x192, {paper.source} of the paper beside ours", title_justify="left")
    for name in ("", "params, paper [M]", "ours [M]", "GFLOPs, paper", "ours (MACs)"):
        table.add_column(name, justify="left" if not name else "right")
    for name in SIZES:
        row = paper.rows[name]
        full = load(row.experiment or paper.experiment, ["scale=paper"], find_paper=papers.get)
        height, width = full.cfg.data.input_size
        cost = count(build_module(full).net.eval(), torch.zeros(1, 3, height, width))
        paper_m, paper_g = row.paper["params"], row.paper["GFLOPs"]
        numbers = (f"{paper_m:.1f}", f"{cost.params / 1e6:.2f}", f"{paper_g:.2f}", f"{cost.macs / 1e9:.2f}")
        table.add_row(row.label, *numbers)
    Console().print(table)
