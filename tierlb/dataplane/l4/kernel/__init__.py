"""The `nftables` forwarder: the kernel forwards connections; the node programs it, and counts what it did."""
