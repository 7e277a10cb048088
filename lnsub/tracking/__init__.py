"""Weights & Biases: runs that go on after an interruption, tickets with their lineage, a report's tables, a dashboard.

Training never depends on it: what W&B fails at is said once and left out.
"""
