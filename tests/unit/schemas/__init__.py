"""Unit tests of one room."""
