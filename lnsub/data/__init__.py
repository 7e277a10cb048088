"""From rows to batches: sources, the tokenised cache, batching, the data module."""
