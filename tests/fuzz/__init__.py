"""
Fuzzing of all that parses: C{make fuzz}.

A target is a function of bytes, in a module of its own, that returns for any
bytes whatever, and raises for what is a mistake in the package.  None of them
needs a fuzzer: C{tests/test_fuzz.py} gives each its corpus.
"""
