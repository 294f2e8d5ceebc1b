"""Data sets: COCO-format readers, crops and images as batches, the decoded-image cache, checks and drawn people."""
