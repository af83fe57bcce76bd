"""From two systems to a report: list, snapshot, compare, diagnose, render, deliver."""
