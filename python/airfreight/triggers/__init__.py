"""Waiting in the triggerer for work that runs elsewhere."""
