"""The configuration: typed sections, the documents that come out of them, and reloading."""
