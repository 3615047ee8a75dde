"""GACHAMAX, the guide's last resort where there are one or a few pictures: train, generate, choose, and again.

`rounds` is what is kept on the disk, `likeness` sorts candidates, `candidates` makes them, `game` plays the rounds.
"""
