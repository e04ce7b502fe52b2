"""Local and remote models behind one `Engine` seam."""
