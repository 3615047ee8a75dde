"""The demo world: drawn characters with true captions, a small checkpoint that learnt them, a tagger that judges it."""
