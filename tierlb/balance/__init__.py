"""Every decision: values, a time and a random source in, a value out. No clock, no sockets."""
