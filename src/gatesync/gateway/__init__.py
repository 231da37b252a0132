"""The data plane agent: informer, desired and applied, admin HTTP."""
