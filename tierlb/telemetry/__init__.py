"""What a node counts and what it says of it upwards: values in, values out. Records and sums up, never sends."""
