"""What writes files of this project out of its code."""
