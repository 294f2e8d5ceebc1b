"""A paper's tables as commands: schema, runner, printing, sweeps."""
