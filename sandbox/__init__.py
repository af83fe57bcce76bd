"""An embedded HMPPS: fake services over real HTTP around one population, with queues, faults, a journal and an idea of the truth."""
