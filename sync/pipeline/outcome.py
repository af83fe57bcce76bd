"""How the handling of one message ended."""

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a message; the words are those of summaries, metrics and the ledger."""

    #: Its effect is in NOMIS (and, for a creation, in the mapping service).
    APPLIED = "applied"
    #: A later event of the same entity, handled instead, covers it.
    COALESCED = "coalesced"
    #: The event needs nothing in NOMIS.
    IGNORED = "ignored"
    #: The record exists already, or its mapping was refused because another one exists; nothing is left to do.
    DUPLICATE = "duplicate"
    #: Created in NOMIS; a separate message saves the mapping.
    RETRY_QUEUED = "retry_queued"
    #: Events of this type are switched off.
    SWITCHED_OFF = "switched_off"
    #: The message has an unknown type.
    UNHANDLED = "unhandled"
    #: It failed; it comes again or goes to the dead letter queue.
    FAILED = "failed"
    #: It is malformed.
    UNREADABLE = "unreadable"
    #: Nobody can tell whether NOMIS has the record: a person has to decide; it is never created again automatically.
    AMBIGUOUS = "ambiguous"
    #: Returned to the queue untried, or to wait there.
    DEFERRED = "deferred"

    @property
    def is_final(self) -> bool:
        """Whether the message may be deleted."""
        return self not in (Outcome.FAILED, Outcome.UNREADABLE, Outcome.DEFERRED)
