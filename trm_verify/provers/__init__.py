"""Untrusted search for witnesses, one file a strategy. Provers see the graph, never the module that it came from."""
