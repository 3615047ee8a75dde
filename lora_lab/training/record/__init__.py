"""What a run leaves on the disk: state, snapshots, events, metadata."""
