"""How the handling of one message ended."""

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a message; the words are those of summaries, metrics and the ledger."""

    #: Its effect is in NOMIS (and, for a creation, in the mapping service).
    APPLIED = "applied"
    #: A later event of the same entity brought its effect along.
    COALESCED = "coalesced"
    #: The event needs nothing in NOMIS.
    IGNORED = "ignored"
    #: The record exists already, or its mapping was refused because another one exists: nothing more to do here.
    DUPLICATE = "duplicate"
    #: Created in NOMIS; saving the mapping was handed to a message of its own.
    RETRY_QUEUED = "retry_queued"
    #: Events of this type are switched off.
    SWITCHED_OFF = "switched_off"
    #: The message is of a type that is none of ours.
    UNHANDLED = "unhandled"
    #: It failed and comes again, or goes to the dead letter queue.
    FAILED = "failed"
    #: It cannot be understood.
    UNREADABLE = "unreadable"
    #: Whether NOMIS has the record cannot be told: recorded for a person, never created again by itself.
    AMBIGUOUS = "ambiguous"
    #: Handed back to the queue untouched, to be tried later.
    DEFERRED = "deferred"

    @property
    def settled(self) -> bool:
        """Whether the message has done its duty and may be deleted."""
        return self not in (Outcome.FAILED, Outcome.UNREADABLE, Outcome.DEFERRED)
