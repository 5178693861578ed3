"""Views of a run, from its events while it runs and from its files afterwards."""
