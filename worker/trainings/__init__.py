"""Trainings: one attempt at a time, its log, and its checkpoints in storage. Needs the extra `finetuning`."""
