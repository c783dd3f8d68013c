"""The subcommands of `hneurons`, a module for each group of them; `hneurons_eval.cli` puts them together."""
