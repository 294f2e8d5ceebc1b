import json
import sys

import pytest
from toy import loaded

from repose.engine.logging import SUMMARY, MetricsFile, Wandb, wandb_mode


def test_metrics_file_drops_what_a_resumed_run_writes_again(tmp_path):
    file = MetricsFile(tmp_path)
    for step in (1, 2, 3):
        file.write("train", step, {"loss": float("nan")})
        file.write("test", step, {"AP": 0.1})
    with file.path.open("a") as f:
        f.write('{"kind": "train", "st')  # killed while writing
    file.keep_until(2, evaluated=False)
    rows = [json.loads(line) for line in file.path.read_text().splitlines()]
    assert [(r["step"], r["kind"]) for r in rows] == [(1, "train"), (1, "test"), (2, "train")]
    assert rows[0]["loss"] is None
    file.keep_until(0, evaluated=False)
    assert file.path.read_text() == ""


def test_wandb_is_online_only_with_a_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_mode("auto") == "off"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    assert wandb_mode("auto") == "online"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert wandb_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode("auto") == "offline"
    assert wandb_mode("off") == "off"


def test_without_wandb_one_line_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = Wandb(loaded(tmp_path, "log.wandb=offline").cfg, tmp_path, "id")
    run.write(1, {"a": 1})
    assert run.mode == "off" and capsys.readouterr().err.count("\n") == 1


def test_summary_keys_are_fixed(tmp_path):
    run = Wandb(loaded(tmp_path).cfg, tmp_path, "id")
    assert run.mode == "off"
    run.summary(dict.fromkeys(SUMMARY, 0))
    with pytest.raises(KeyError, match="paper_value"):
        run.summary({k: 0 for k in SUMMARY if k != "paper_value"})
