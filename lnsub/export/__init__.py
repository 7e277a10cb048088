"""Sub-networks as Hugging Face model folders."""
