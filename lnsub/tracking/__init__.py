"""Weights & Biases: a run's metrics, its tickets and their lineage, a report's tables, a dashboard.

Training never depends on it: what W&B fails at is logged once, and training continues without it.
"""
