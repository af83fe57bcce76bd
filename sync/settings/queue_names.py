"""The names of the queues, apart from the other settings: commands show them in their help, which has to be quick."""

#: The queues, by the names that commands and variables use.
QUEUES = (
    "visit",
    "incentive",
    "activity",
    "appointment",
    "sentencing",
)
