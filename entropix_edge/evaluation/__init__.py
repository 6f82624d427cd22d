"""Tasks, runs and statistics: what a strategy is worth, measured; and thresholds fitted to a model."""
