"""Tests of training, a package so that its conftest.py can stand beside that of all tests."""
