"""The only way to a model: reserve the worst case, forward, settle what the provider reported.

`application` is the HTTP face, `call` one call from its reservation to its end, `ledger` its money.
`messages`, `chat` and `responses` are the three wires: what they let through and how they say it.
"""
