"""Network parts that more than one paper needs."""
