"""Tests of training; a package, so that its conftest.py has another module name than tests/conftest.py."""
