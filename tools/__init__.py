"""Commands (`python -m tools.NAME`) and the parts they share."""
