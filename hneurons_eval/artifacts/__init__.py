"""What a run leaves behind: stores of contributions, probes, logs, and how a reference to one is resolved."""
