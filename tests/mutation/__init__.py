"""
Whether the tests notice when the package is broken: C{make mutation}.
"""
