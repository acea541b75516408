"""Tests of one room each, without a service."""
