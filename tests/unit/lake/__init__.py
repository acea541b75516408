"""Unit tests of the lake."""
