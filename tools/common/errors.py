"""The error that ends a program with one line; this file imports nothing, so that any file may raise it."""


class UserError(Exception):
    """An error that the user can fix: the message says where, what was found, what was expected, what to do."""
