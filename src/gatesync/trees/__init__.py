"""Synapse trees on disk: written so that who reads them at any moment finds whole files."""
