"""A load balancer made to be stacked: load flows up, intent flows down."""

__version__ = "0.1.0"
