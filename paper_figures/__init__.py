"""The paper's figures and table, redrawn from collected results (files only, no framework)."""
