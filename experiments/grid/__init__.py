"""What is trained: arms, protocols in which all of them are trained alike, and runs of both."""
