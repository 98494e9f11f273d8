"""The error that ends a program with one line; this file imports nothing, so that anything may raise it."""


class UserError(ValueError):
    """A mistake the user can mend: the message says where, what was found, what was expected, what to do."""
