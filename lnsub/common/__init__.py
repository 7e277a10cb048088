"""Domain-independent code: errors, files, locks, signals, threads, tables."""
