"""Unit tests of masks."""
