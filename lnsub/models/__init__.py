"""Base models: loading, attention, packing, compiling, and the sub-network of a live model."""
