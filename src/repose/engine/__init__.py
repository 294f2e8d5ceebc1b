"""Training and evaluation: `PoseModule`, optimisers, EMA, checkpoints, logs, runs. It knows no paper."""
