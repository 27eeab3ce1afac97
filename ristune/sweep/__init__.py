"""The search: Ray Tune runs the trials, Optuna proposes them, ASHA stops the poor ones."""
