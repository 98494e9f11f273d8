"""Scores of a pair of signals, of a whole test, and those kept from earlier."""
