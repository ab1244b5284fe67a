"""What is kept of the runs: files on disk, how far they are, and one table of all of them."""
