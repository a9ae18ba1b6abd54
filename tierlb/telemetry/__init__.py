"""The counts of a node and its reports to parents: values in, values out. It records and adds up, but sends nothing."""
