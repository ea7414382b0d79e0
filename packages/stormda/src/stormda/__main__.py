"""`python -m stormda`, for launchers that start modules (`torchrun -m stormda train ...`)."""

from stormda.cli import main

if __name__ == "__main__":
    main(prog_name="stormda")
