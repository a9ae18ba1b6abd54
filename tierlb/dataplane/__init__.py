"""What carries traffic: synchronous handlers in the reactor, reading one immutable snapshot."""
