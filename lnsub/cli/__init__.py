"""The `lnsub` command: one file a command, which parses and prints; what it does is elsewhere."""
