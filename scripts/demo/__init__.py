"""`make demo`: a real cluster on this machine, what is done to it, and who has what after that."""
