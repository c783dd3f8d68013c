"""The probe: a sparse classifier of hallucinated answers, its nested cross-validation and its baselines."""
