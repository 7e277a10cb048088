"""Tickets without training: from theta_0 and a sample of each language's text."""
