"""The domain, pure: artifacts, their canonical form and digests, and what a label's log is.

Nothing here does I/O, knows asyncio or reads a clock. Import from the modules: a gateway takes
only those it needs, and `xml`, `synapse` and `folder` bring in lxml.
"""
