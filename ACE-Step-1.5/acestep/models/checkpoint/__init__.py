"""The files of a checkpoint: where they are, what their config.json says, how their weights are read."""
