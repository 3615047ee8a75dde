"""What lets a step need less memory, and how much a run will need."""
