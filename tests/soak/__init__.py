"""
A long run of everything at once, on two reactors: C{make soak}.
"""
