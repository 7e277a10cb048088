"""What is computed from tickets and records: overlap, retrieval, relative drop, correlations."""
