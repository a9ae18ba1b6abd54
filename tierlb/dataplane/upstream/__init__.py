"""What a node sends to: hosts, host sets, how their state is found out, and when they come and go."""
