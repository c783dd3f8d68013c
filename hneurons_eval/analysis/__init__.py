"""Statistics of what was found: detection, sweeps over alpha, audits, drift, and agreement between judges."""
