"""The mail library, pure: octets and values in, octets and values out. It imports nothing else of ours.

`mime` (parts, facts, text, composing) stands above `header` (fields, addresses, dates, trace, edits), that above
`envelope` (paths, xtext) and `text` (charsets, folding, HTML); `canonical`, `octets`, `limits`, `idset` and `ranges`
are below all.
"""
