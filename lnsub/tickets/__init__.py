"""Tickets: the file, its provenance, finding and combining them. Nothing here needs torch."""
