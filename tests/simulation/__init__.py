"""The product's own code against small models of its services, in virtual time, from one seed.

`python -m tests.simulation` runs many seeds and says how many a minute; docs/simulation.md says what is real and what
is modelled.
"""
