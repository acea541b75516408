"""How results go out: a sink answers that a batch is durable, or raises."""
