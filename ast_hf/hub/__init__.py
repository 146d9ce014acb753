"""Requests to the Hub, and publishing a model there."""
