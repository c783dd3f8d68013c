"""What Inspect discovers. Every `inspect` command imports this, so nothing heavy is imported here."""
