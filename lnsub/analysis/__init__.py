"""What is computed from tickets and records: overlap, retrieval, transfers compared."""
