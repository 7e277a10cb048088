"""Ablation: what each language loses where the weights that a ticket names are taken away, beside random ones."""
