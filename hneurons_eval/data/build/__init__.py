"""Scripts that make the bundled question sets; not part of the wheel."""
