"""How alike tickets are: from counts on packed bits to what `lnsub overlap` shows. None of it needs torch.

``jaccard`` has the overlap itself, on ``counts``; ``departure`` and ``inheritance`` what of it is theta_0's;
``neutrality`` the index over languages. ``comparison`` gathers all of it as rows, and ``text`` lays them out for a
terminal.
"""
