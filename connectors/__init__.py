"""How events come in: the transport, the formats of the sources, and the security of both."""
