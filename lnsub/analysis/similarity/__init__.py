"""How similar the states of two languages' parallel sentences are, layer by layer.

``axes`` reduces states to their principal axes and to the moments that every measure needs, ``measures`` has the
measures, ``resampling`` their null and interval, and ``measure`` puts it together.
"""
