"""Trainings: their input, and how clients see them. Their records and their life are those of predictions."""
