"""Stands in for `python -m repose` in the tests of tables: same command line, run folder and exit codes, no training.

FAKE_AP: JSON from `model.roi.size` to AP; FAKE_FAIL: ROI size that crashes; FAKE_STEPS and FAKE_STEP_S: steps of a run,
each written down, so that a killed run can go on; FAKE_COUNT: file that gets a line per step; FAKE_CODE: its code
fingerprint. Imports nothing of repose, so that each run takes a moment only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> int:
    verb, _, *words = sys.argv[1:]
    given = dict(word.partition("=")[::2] for word in words)
    folder = Path(given["log.dir"])
    roi, seed = given.get("model.roi.size", "7"), int(given.get("seed", "21"))
    print(f"fake {verb} of ROI {roi}", flush=True)
    base = {
        "identity": folder.name.rpartition("-")[2], "paper": "drpnet", "params": 1, "macs": 1, "input_size": [96, 72],
        "box_source": os.environ.get("FAKE_BOXES", "gt"), "oks_area": "annotation", "flip": True, "test_scales": [1.0],
        "seed": seed, "scale": given["scale"], "init": "scratch", "hours": 0.5, "commit": "abc1234def", "dirty": False,
        "hardware": "a fake machine", "code_fingerprint": json.loads(os.environ.get("FAKE_CODE", "{}")),
        "data": {"name": os.environ.get("FAKE_DATA", "synthetic"), "fingerprint": "today"},
    }  # fmt: skip

    def write(name: str, value: object) -> None:
        part = folder / f"{name}.part"
        part.write_text(json.dumps(value))
        os.replace(part, folder / name)

    folder.mkdir(parents=True, exist_ok=True)
    step_file = folder / "step"
    step = int(step_file.read_text()) if step_file.exists() else 0
    write("result.json", {**base, "status": "running", "metrics": {}})
    while step < int(os.environ.get("FAKE_STEPS", "1")):
        time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
        step += 1
        write("step", step)
        if count := os.environ.get("FAKE_COUNT"):
            with open(count, "a") as file:
                file.write(f"{verb} {roi} {seed} {step} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
    if roi == os.environ.get("FAKE_FAIL"):
        print("the fake ran out of memory", file=sys.stderr)
        return 3
    if verb == "train":
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "best.ckpt").write_text("weights")
    ap = json.loads(os.environ.get("FAKE_AP", "{}")).get(roi, 0.5) + 0.01 * (seed - 21)
    write("predictions.json", [])
    metrics = {"AP": ap, "AP50": ap, "coarse_AP": ap / 2, "roi_inside": 0.9}
    write("result.json", {**base, "status": "done", "metrics": metrics})
    return 0


if __name__ == "__main__":
    sys.exit(main())
