"""Training: the step (what is compared with what), the loop of a stage, checkpoints, logs, and whole runs."""
