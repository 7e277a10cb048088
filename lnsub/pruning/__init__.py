"""Masks, scores, schedules and exact selection, on tensors alone."""
