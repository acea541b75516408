"""The front door: the command line, the demo and what puts an app together from its configuration."""
