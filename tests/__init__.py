"""Tests of Headgate; a package, so that no foreign package of this name comes before it."""
