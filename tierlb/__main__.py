"""`python -m tierlb` is the console script by another name."""

from tierlb.cli.main import main

main()
