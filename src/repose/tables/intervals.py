"""Confidence intervals by bootstrap over images; kept below `<runs>/.cost-cache`, because each takes seconds."""
