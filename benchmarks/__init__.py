"""What uploads cost, beside yardsticks from the same run: ``make bench``."""
