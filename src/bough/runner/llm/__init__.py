"""The built-in agent: asks a model, does the tools it calls, and keeps the conversation.

`start` is the driver, all that the runner imports of it. In the agent's process, `__main__` runs
`loop`: `conversation` holds the recorded entries, `entry` their shape, `messages` makes them into
what pydantic-ai sends, `model` asks and `metering` pays where no gateway does; `prompt` and `money`
say what the model is told, `tools` puts together those of `files`, `shell` and `words`. Imports
nothing.
"""
