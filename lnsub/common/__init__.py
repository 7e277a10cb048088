"""What is nothing of the subject: errors, files, locks, signals, threads, tables."""
