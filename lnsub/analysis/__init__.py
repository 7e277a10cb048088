"""What is computed from tickets and records: overlap, retrieval, similarity, relative drop, correlations."""
