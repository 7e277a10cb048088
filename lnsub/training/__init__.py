"""One run: the module, the rounds of pruning, checkpoints, preemption, ranks."""
