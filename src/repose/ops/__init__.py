"""Pure, batched functions on tensors, on any device: what several papers share."""
