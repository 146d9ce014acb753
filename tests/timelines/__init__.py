"""Tests of timelines; a package, so that its files may have the names of others."""
