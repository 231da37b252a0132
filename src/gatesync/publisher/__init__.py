"""The control plane: publish, remove, heads, receipts, HTTP."""
