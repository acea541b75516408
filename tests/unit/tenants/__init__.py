"""Tenants: their names, their specs, their rights."""
