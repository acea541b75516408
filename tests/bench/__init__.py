"""What the way of the data costs, measured on real services: `make bench`."""
