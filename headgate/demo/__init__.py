"""The demo: a small hospital and a power company, told as change events, on a machine with Python alone."""
