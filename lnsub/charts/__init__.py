"""Charts as Altair specifications: one of each kind, for a report's page, for W&B's panels and for a paper's files.

A specification names no colour and no font. :mod:`lnsub.charts.theme` has these, for light pages, dark pages and paper.
"""
