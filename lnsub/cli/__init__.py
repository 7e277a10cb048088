"""The `lnsub` command: one file per command, for its options and output only."""
