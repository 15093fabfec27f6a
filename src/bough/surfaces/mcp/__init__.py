"""The words of the command line as tools of the Model Context Protocol, by stdio and by HTTP.

`acting` says for whom a call is made, `tree` and `talk` hold the tools, `server` puts them
together, `door` opens them at the runner's door. The SDK takes seconds to import, so only
`bough mcp` and the first request to /mcp do.
"""
