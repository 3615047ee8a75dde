"""Files of others: read by the real readers, from files as people have them."""
