"""Unit tests of the contract reader."""
