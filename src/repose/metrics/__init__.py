"""AP, error kinds, confidence intervals, cost."""
