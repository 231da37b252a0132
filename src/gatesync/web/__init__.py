"""HTTP as gatesync uses it: one client, one server, for every role."""
